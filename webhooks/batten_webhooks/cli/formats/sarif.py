"""For code scanning: SARIF 2.1.0 (OASIS), with every rule's help and the violations' places."""

from __future__ import annotations

import sys
from argparse import Namespace
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import msgspec

from batten_webhooks.cli.judge import Problem, Result
from batten_webhooks.rules import BY_NAME
from batten_webhooks.rules.rule import Rule

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
DOCUMENTATION = "https://github.com/batten-dev/batten/blob/main/docs/rules"


def write(result: Result, _: Namespace) -> None:
    names = sorted({problem.rule for problem in result.problems})
    index = {name: number for number, name in enumerate(names)}
    notifications = [
        {
            "level": "error",
            "message": {"text": error.message},
            "locations": [_location(error.source.shown, error.line or 1, error.column or 1)],
        }
        for error in result.unusable
    ]
    driver = {
        "name": "batten",
        "version": version("batten"),
        "informationUri": DOCUMENTATION,
        "rules": [rule_entry(BY_NAME[name]) for name in names],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not result.unusable,
                "toolExecutionNotifications": notifications,
            }
        ],
        "results": [_result(problem, index[problem.rule]) for problem in result.problems],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(log)) + b"\n")


def rule_entry(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.name,
        "shortDescription": {"text": rule.summary},
        "help": {"text": rule.doc.strip(), "markdown": rule.doc.strip()},
        "helpUri": f"{DOCUMENTATION}/{rule.name}.md",
        "properties": {"tags": ["security", rule.level]},
    }


def _result(problem: Problem, rule_index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": problem.rule,
        "ruleIndex": rule_index,
        "level": problem.level,
        "message": {
            "text": f"{problem.object}: {problem.message}. {problem.field}: {problem.remedy}"
        },
        "locations": [_location(problem.file, problem.line, problem.column, problem.field)],
        "partialFingerprints": {
            "field/v1": f"{problem.object} {problem.field} {problem.rule}",
        },
    }
    if problem.edits:
        result["fixes"] = [_fix(problem)]
    return result


def _fix(problem: Problem) -> dict[str, Any]:
    replacements = [
        {
            "deletedRegion": {
                "startLine": edit.start.line,
                "startColumn": edit.start.column,
                "endLine": edit.end.line,
                "endColumn": edit.end.column,
            },
            "insertedContent": {"text": edit.text},
        }
        for edit in problem.edits
    ]
    change = {"artifactLocation": {"uri": quote(problem.file)}, "replacements": replacements}
    return {"description": {"text": problem.remedy}, "artifactChanges": [change]}


def _location(file: str, line: int, column: int, field: str = "") -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": quote(file)},
            "region": {"startLine": line, "startColumn": column},
        }
    }
    if field:
        location["logicalLocations"] = [{"fullyQualifiedName": field}]
    return location
