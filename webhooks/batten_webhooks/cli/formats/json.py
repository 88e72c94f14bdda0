"""For programs: one object, versioned; docs/schemas/check.v1.json describes it."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict
from typing import Any

import msgspec

from batten_webhooks.cli.judge import Problem, Result

VERSION = 1


def write(result: Result, _: Namespace) -> None:
    value = {
        "version": VERSION,
        "problems": [_row(problem) for problem in result.problems],
        "unusable": [
            {
                "file": error.source.shown,
                "line": error.line,
                "column": error.column,
                "message": error.message,
            }
            for error in result.unusable
        ],
        "skipped": [{"file": source.shown, "reason": reason} for source, reason in result.skipped],
        "files": len(result.judged),
        "workloads": result.workloads,
    }
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value)) + b"\n")


def _row(problem: Problem) -> dict[str, Any]:
    row = asdict(problem)
    del row["edits"], row["text"]
    return row
