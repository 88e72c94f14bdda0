"""Take the documentation's screens: `batten audit` of a real API server, as a browser shows it.

    python docs/screens.py

It needs Chromium, and fonts as a desktop has them; the pictures go to docs/screens/.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from batten_cluster import ControlPlane  # noqa: E402
from batten_e2e import Namespace, run  # noqa: E402
from batten_tools import say  # noqa: E402

SCREENS = ROOT / "docs" / "screens"
BATTEN = Path(sys.executable).with_name("batten")
SIZE: ViewportSize = {"width": 1200, "height": 760}


def main() -> int:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        say("there is no Chromium here: apt-get install chromium")
        return 1
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="batten-screens-") as folder:
        report = Path(folder, "audit.html")
        _audit(Path(folder, "cluster"), report)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=arguments)
            _take(browser, report, "audit.png")
            _take(browser, report, "audit-workload.png", opened="legacy")
            browser.close()
    return 0


def _audit(folder: Path, report: Path) -> None:
    with ControlPlane(folder) as plane:
        plane.kubectl("apply", "-f", str(SCREENS / "cluster.yaml")).require()
        for name, pods in (("shop", 3), ("billing", 1), ("platform", 0)):
            Namespace(name, plane.kubectl).pods(pods)
        os.environ["KUBECONFIG"] = str(plane.kubeconfig)
        # 1: something would be refused.
        done = run(str(BATTEN), "audit", "--format", "html", "--output", str(report), timeout=120)
        if done.code != 1:
            raise SystemExit(done.stderr)


def _take(browser: Browser, report: Path, file: str, opened: str = "") -> None:
    page = browser.new_page(viewport=SIZE)
    page.goto(report.as_uri())
    if opened:
        page.get_by_label("Search").fill(opened)
        page.locator("summary", has_text=opened).click()
        page.locator("#workloads").evaluate("place => place.scrollIntoView()")
    page.screenshot(path=SCREENS / file)
    say(f"docs/screens/{file}")
    page.close()


if __name__ == "__main__":
    sys.exit(main())
