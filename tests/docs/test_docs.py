"""Documentation that is generated is fresh, and its commands do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from batten_command import batten
from batten_corpus import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
README = ROOT / "README.md"
DEMO = ROOT / "tests" / "cluster" / "demo"
LEGACY = ROOT / "tests" / "e2e" / "messages" / "legacy"
FLAGS = re.MULTILINE | re.DOTALL
BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", FLAGS)
# What other tests run: every target of the Makefile, the chart's installation, pip.
ELSEWHERE = ("make ", "helm install ", "pip install ", "kubectl ", "cat ", "source ")
WEB = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n"
    "spec: {containers: [{name: web, image: 'web:1'}]}\n"
)
POLICY = (
    "apiVersion: batten.dev/v1alpha1\nkind: HardeningPolicy\nmetadata: {name: shop}\nspec: {}\n"
)


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.splitlines():
                command = line.removeprefix("$ ").partition("  #")[0].strip()
                if command.startswith("batten "):
                    found.append(command)
                elif line.startswith("$ ") or "```sh" in block:
                    assert command.startswith(ELSEWHERE), f"{page}: {command}"
    return found


def test_generated_pages_are_fresh() -> None:
    for script in ("docs/generate.py", "deploy/generate.py"):
        done = subprocess.run(
            [sys.executable, ROOT / script, "--check"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands())
def test_command(command: str, tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    for name in ("web.yaml", "misplaced.yaml", "deploy/web.yaml"):
        (tmp_path / name).write_text(WEB)
    (tmp_path / "policy.yaml").write_text(POLICY)
    ran = batten(*command.split()[1:], cwd=tmp_path)
    assert ran.code in (0, 1), ran.err


def test_the_readme_shows_real_output() -> None:
    """Of `batten` as it is run here; of `kubectl` as the end-to-end tests see it."""
    shown = dict(
        block.removeprefix("$ ").split("\n", 1)
        for block in re.findall(r"^```console\n(.*?)^```", README.read_text(), FLAGS)
    )
    assert set(shown) == {"kubectl apply -f legacy.yaml", "batten harden --diff misplaced.yaml"}
    ran = batten("harden", "--diff", "misplaced.yaml", cwd=DEMO)
    assert shown["batten harden --diff misplaced.yaml"] == ran.out
    assert (DEMO / "legacy.yaml").read_text() == (LEGACY / "object.yaml").read_text()
    golden = (LEGACY / "expected.txt").read_text().replace("object.yaml", "legacy.yaml")
    lines = [line for line in golden.splitlines() if not line.startswith(("$", "Warning", "exit"))]
    assert shown["kubectl apply -f legacy.yaml"].splitlines() == lines


def test_links_between_pages() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(\s*([^)#\s:]+)\s*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
