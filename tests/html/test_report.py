"""The HTML report in a real browser: what is shown, what can be done with it, what never runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import html5lib
import pytest
from axe_playwright_python.sync_playwright import Axe
from batten_audit import HOSTILE, hostile, many, real
from batten_corpus import needs_corpus
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from batten_webhooks.cli.formats import html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MOST_BYTES = 10_000_000
WIDTHS = {"phone": (390, 844), "desktop": (1440, 900)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "audit.html"
    file.write_text(html.render(hostile()), encoding="utf-8")
    return file


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report opened; at the end nothing was complained of and nothing asked for attention."""
    opened = browser.new_page(viewport={"width": 1440, "height": 900})
    told: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        told.append(dialog.message)
        dialog.dismiss()

    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("dialog", dismiss)
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert told == []


def test_html_is_valid() -> None:
    html5lib.HTMLParser(strict=True).parse(html.render(hostile()))


def test_hostile_names_are_text(page: Page) -> None:
    shown = HOSTILE.replace("\u202e", "\\u202e").replace("\x00", "\\x00").replace("\x1b", "\\x1b")
    assert page.locator("h1").text_content() == shown
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1


def test_filters_and_keeps_them_in_the_address(page: Page) -> None:
    page.get_by_label("Outcome").select_option("refused")
    page.get_by_text("Showing 1 of 5 workloads").wait_for()
    page.wait_for_function("location.hash === '#outcome=refused'")
    page.reload()
    page.get_by_text("Showing 1 of 5 workloads").wait_for()
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Search").fill("no such thing")
    page.get_by_text("No workload fits").wait_for()
    page.get_by_label("Search").fill("plain kept")
    page.get_by_text("Showing 1 of 5 workloads").wait_for()
    page.get_by_role("button", name="Clear").click()
    page.locator("select[name=rule]").select_option("no-privileged")
    page.get_by_text("Showing 4 of 5 workloads").wait_for()


def test_a_link_of_a_table_filters(page: Page) -> None:
    page.get_by_role("link", name="plain", exact=True).click()
    page.get_by_text("Showing 1 of 5 workloads").wait_for()


def test_keyboard_reaches_every_control(page: Page) -> None:
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(e => e.name || e.id || e.className || e.tagName)(document.activeElement)"
            )
        )
    assert {"skip", "theme", "q", "namespace", "rule", "outcome", "open", "SUMMARY"} <= reached


def test_theme_is_switched(page: Page) -> None:
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(page: Page, width: str) -> None:
    columns, rows = WIDTHS[width]
    page.set_viewport_size({"width": columns, "height": rows})
    page.get_by_role("button", name="Open all").click()
    assert page.evaluate("document.documentElement.scrollWidth") == columns


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible(browser: Browser, report: Path, theme: str) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=theme)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.goto(report.as_uri())
    opened.get_by_role("button", name="Open all").click()
    results = Axe().run(opened)
    context.close()
    assert results.violations_count == 0, results.generate_report()


def test_all_is_there_without_javascript(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(report.as_uri())
    opened.locator("summary").first.click()
    assert opened.locator(".remarks pre").first.is_visible()
    assert not opened.locator("#filter").is_visible()
    context.close()


def test_real_manifests_two_thousand_times(browser: Browser, tmp_path: Path) -> None:
    needs_corpus()
    text = html.render(many(real(), 2000))
    assert len(text.encode()) < MOST_BYTES
    file = tmp_path / "audit.html"
    file.write_text(text, encoding="utf-8")
    opened = browser.new_page()
    opened.goto(file.as_uri() + "#rule=run-as-non-root")
    assert opened.locator(".list > li").count() == 2000
    told = opened.locator("#count").text_content() or ""
    assert told.endswith("of 2,000 workloads")
    opened.close()
