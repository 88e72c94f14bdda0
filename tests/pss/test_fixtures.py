"""The presets agree with the Pod Security Standards' own fixtures, every one of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from batten_command import batten
from batten_corpus import CORPUS, needs_corpus

from batten_webhooks.engine import evaluate
from batten_webhooks.policy import PRESETS
from batten_webhooks.workload import read_object

INDEX = CORPUS / "pss" / "expectations.jsonl"
ROWS = [json.loads(line) for line in INDEX.read_text().splitlines()] if INDEX.exists() else []


def test_the_fixtures_are_there() -> None:
    needs_corpus()
    assert len(ROWS) > 100


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_fixture(row: dict[str, Any]) -> None:
    value = yaml.safe_load((CORPUS / "pss" / row["file"]).read_text())
    workload = read_object(value)
    assert workload is not None
    violations = evaluate(workload, PRESETS[row["level"]]).violations
    assert bool(violations) == (row["expect"] == "fail"), [v.finding for v in violations]


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_the_command_agrees_with_every_fixture(level: str) -> None:
    """One process for all files: those with an error are those that the standard refuses."""
    needs_corpus()
    rows = [row for row in ROWS if row["level"] == level]
    files = [str(CORPUS / "pss" / row["file"]) for row in rows]
    ran = batten("check", f"--policy={level}", "--format=json", *files)
    refused = {problem["file"] for problem in json.loads(ran.out)["problems"]}
    expected = {file for file, row in zip(files, rows, strict=True) if row["expect"] == "fail"}
    assert refused == expected
    assert ran.code == 1
