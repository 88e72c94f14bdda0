"""docs/reference/kubernetes.md tells of every version that the tests know, and none failed."""

from __future__ import annotations

import json

from batten_corpus import ROOT
from batten_tools import VERSIONS

RESULTS = json.loads((ROOT / "tests" / "e2e" / "versions.json").read_text())


def test_every_version_was_run() -> None:
    assert RESULTS.keys() == {f"v{number}" for number in VERSIONS.values()}


def test_nothing_failed_and_as_much_was_run_on_each() -> None:
    assert {found["failed"] for found in RESULTS.values()} == {0}
    assert len({found["passed"] + found["skipped"] for found in RESULTS.values()}) == 1
