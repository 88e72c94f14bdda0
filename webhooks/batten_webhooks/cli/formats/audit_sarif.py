"""For code scanning: SARIF 2.1.0 (OASIS); the places are objects of the cluster."""

from __future__ import annotations

import sys
from argparse import Namespace
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import msgspec

from batten_webhooks.audit import Audit, Outcome, Remark, WorkloadResult
from batten_webhooks.cli.formats.sarif import DOCUMENTATION, SCHEMA, rule_entry
from batten_webhooks.rules import BY_NAME

LEVELS: dict[Outcome, str] = {
    "refused": "error",
    "excepted": "note",
    "warned": "warning",
    "changed": "note",
    "compliant": "none",
}


def write(audit: Audit, _: Namespace) -> None:
    told = [(result, remark) for result in audit.workloads for remark in result.remarks]
    names = sorted({remark.rule for _, remark in told})
    index = {name: number for number, name in enumerate(names)}
    driver = {
        "name": "batten",
        "version": version("batten"),
        "informationUri": DOCUMENTATION,
        "rules": [rule_entry(BY_NAME[name]) for name in names],
    }
    notifications = [{"level": "error", "message": {"text": each}} for each in audit.problems]
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not audit.problems,
                "endTimeUtc": audit.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "toolExecutionNotifications": notifications,
            }
        ],
        "results": [_result(*each, index[each[1].rule]) for each in told],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(log)) + b"\n")


def _result(result: WorkloadResult, remark: Remark, rule_index: int) -> dict[str, Any]:
    name = f"{result.namespace}/{result.kind}/{result.name}"
    container = f'container "{remark.container}": ' if remark.container else ""
    text = f"{name}: {container}{remark.detail}. {remark.path}: {remark.remedy}"
    fingerprint = f"{name} {remark.container} {remark.path} {remark.rule}"
    value: dict[str, Any] = {
        "ruleId": remark.rule,
        "ruleIndex": rule_index,
        "level": LEVELS[remark.outcome],
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": quote(name)}},
                "logicalLocations": [{"fullyQualifiedName": f"{name}:{remark.path}"}],
            }
        ],
        "partialFingerprints": {"field/v1": fingerprint},
        "properties": {"outcome": remark.outcome, "policy": result.policy},
    }
    if remark.exception:
        justification = f"HardeningException {remark.exception}"
        value["suppressions"] = [{"kind": "external", "justification": justification}]
    return value
