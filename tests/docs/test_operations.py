"""docs/operations.md speaks of metrics, reasons and messages that there are."""

from __future__ import annotations

import re

import pytest
from batten_corpus import ROOT
from prometheus_client import CollectorRegistry

from batten_operator.metrics import Metrics
from batten_operator.server import _REASONS

PAGE = (ROOT / "docs" / "operations.md").read_text()
CODE = re.sub(
    r'"\s*f?"',
    "",
    " ".join(file.read_text() for file in (ROOT / "operator" / "batten_operator").rglob("*.py")),
)
QUOTED = re.compile(r"`([^`]+)`")


def first_cells(title: str) -> list[str]:
    """What the first column of the section's table quotes."""
    section = PAGE.partition(f"{title}\n")[2].partition("\n#")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [quoted for row in rows for quoted in QUOTED.findall(row.split(" | ")[0])]


def test_its_metrics_are_ours() -> None:
    registry = CollectorRegistry()
    Metrics(registry, ())
    names = set(registry._names_to_collectors)
    used = set(re.findall(r"\bbatten_[a-z_]+", PAGE))
    assert len(used) > 8
    assert used <= names, used - names


def test_every_reason_is_told_of() -> None:
    assert set(first_cells("### Reviews that are answered with an error")) == set(_REASONS.values())


@pytest.mark.parametrize("message", first_cells("### What the log says"))
def test_its_messages_are_ours(message: str) -> None:
    for part in filter(None, (each.strip() for each in message.split("…"))):
        assert part in CODE, message


def test_nothing_that_is_logged_as_wrong_is_left_out() -> None:
    """But for defects, which are all told of alike."""
    quoted = first_cells("### What the log says")
    said = re.findall(r'logger\.(?:warning|error)\(\s*"([^"]+)"', CODE)
    assert len(said) > 20
    for message in said:
        pieces = [each.strip() for each in re.split(r"%[a-z.0-9]+", message) if each.strip(" :")]
        assert any(all(piece in page for piece in pieces) for page in quoted), message


def test_the_table_of_replicas_says_what_the_text_says() -> None:
    """As `python -m bench.replicas` wrote it."""
    block = PAGE.partition("<!-- bench.replicas -->\n")[2].partition("<!-- /bench.replicas -->")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]
    ]
    assert [row[0] for row in rows] == [
        "rolling restart",
        "helm upgrade",
        "one of two replicas killed",
        "no replica left, then two again",
        "every node killed and started",
    ]
    failed, let_in = ([int(row[at]) for row in rows] for at in (4, 5))
    assert failed[:2] == [0, 0]
    assert let_in == [0] * len(rows)
