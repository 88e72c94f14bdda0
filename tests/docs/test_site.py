"""The site is built strictly, its links lead somewhere, and it fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from batten_corpus import ROOT
from playwright.sync_api import Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = ("", "getting-started/", "rules/run-as-non-root/", "comparison/", "reference/cli/")


def build(
    target: Path, configuration: Path = ROOT / "mkdocs.yml"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-f", configuration, "--site-dir", target],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = build(target)
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_there(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix("")
        place = name.parent if name.name == "README" else name
        assert (site / place / "index.html").exists(), page


def test_links_out_of_docs_lead_to_pages(site: Path) -> None:
    """MkDocs checks links between pages; here that ours of tests and folders became such."""
    shown = (site / "security-model" / "index.html").read_text()
    assert 'href="../source/charts/batten/"' in shown
    profiles = site / "source" / "webhooks" / "batten_webhooks" / "images" / "profiles"
    assert 'id="nginxtoml"' in (profiles / "index.html").read_text()


def test_a_wrong_link_ends_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", docs)
    with (docs / "audit.md").open("a") as page:
        page.write("\n[nowhere](nowhere.md)\n")
    configuration = tmp_path / "mkdocs.yml"
    parts = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": str(docs),
        "hooks": [str(ROOT / "docs" / "hook.py")],
    }
    configuration.write_text(yaml.safe_dump(parts))
    done = build(tmp_path / "site", configuration)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(told) == 1, told
    assert "'nowhere.md'" in told[0]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_browser_asks_nobody_else(address: str) -> None:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    asked: list[str] = []
    told: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page()
        page.on("request", note)
        page.on("pageerror", lambda error: told.append(str(error)))
        for place in PAGES:
            page.goto(address + place, wait_until="networkidle")
        page.locator("input[name=query]").press_sequentially("readOnlyRootFilesystem")
        page.locator(".md-search-result__link").first.wait_for()
        browser.close()
    assert len(asked) > len(PAGES)
    assert [url for url in asked if not re.match(f"{address}|data:", url)] == []
    assert told == []
