"""docs/comparison.md: Batten's cells link tests that exist, others' cells link their sources."""

from __future__ import annotations

import re

import pytest
from batten_corpus import ROOT

PAGE = ROOT / "docs" / "comparison.md"
NONE = "—"
LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| |")
]


def test_there_are_rows_of_two_tables() -> None:
    assert len(ROWS) == 20
    assert {len(row) for row in ROWS} == {7}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_test_shows_what_is_said_of_batten(row: list[str]) -> None:
    tests = LINK.findall(row[1])
    assert tests
    for test in tests:
        file = (PAGE.parent / test).resolve()
        assert file.is_relative_to(ROOT / "tests")
        assert "\ndef test_" in file.read_text(), test


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_source_shows_what_is_said_of_others(row: list[str]) -> None:
    for cell in row[2:]:
        assert cell == NONE or any(url.startswith("https://") for url in LINK.findall(cell)), cell
