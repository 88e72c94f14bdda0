"""The table of faults in docs/operations.md has a row for each one in tests/chaos, in its words."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from batten_chaos import Fault
from batten_corpus import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()


def marked() -> Iterator[Fault]:
    """What the tests say of themselves by `@fault(…)`."""
    for file in (ROOT / "tests" / "chaos").glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "fault":
                continue
            (name,) = map(ast.literal_eval, node.args)
            said = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
            yield Fault(name, **said)


def written() -> list[Fault]:
    block = PAGE.partition("<!-- faults:")[2].partition("<!-- end of faults -->")[0]
    rows = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| ")]
    return [Fault(*cells[:3]) for cells in rows[1:]]


def test_every_fault_that_is_tested_is_told_of_once_and_no_other() -> None:
    faults = list(marked())
    assert len(faults) > 10
    assert len(written()) == len(faults)
    assert set(written()) == set(faults)
