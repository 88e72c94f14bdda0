"""For GitHub Actions: workflow commands that become annotations on a pull request."""

from __future__ import annotations

from argparse import Namespace

from batten_webhooks.cli.judge import Problem, Result

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def write(result: Result, options: Namespace) -> None:
    for problem in result.problems:
        if problem.level != "note" or options.verbose:
            print(_annotation(problem))
    for error in result.unusable:
        place = (
            f"file={_property(error.source.shown)},line={error.line or 1},col={error.column or 1}"
        )
        print(f"::error {place},title=unusable::{_data(error.message)}")


def _annotation(problem: Problem) -> str:
    place = f"file={_property(problem.file)},line={problem.line},col={problem.column}"
    text = f"{problem.object}: {problem.message}\n{problem.field}: {problem.remedy}"
    return f"::{COMMANDS[problem.level]} {place},title={_property(problem.rule)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
