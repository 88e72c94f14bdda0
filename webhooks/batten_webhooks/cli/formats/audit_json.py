"""For programs: one object, versioned; docs/schemas/audit.v1.json describes it."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict
from datetime import datetime

import msgspec

from batten_webhooks.audit import Audit, WorkloadResult

VERSION = 1


class NotAnAudit(ValueError):
    """What was read is none that `write` wrote."""


class _Document(msgspec.Struct):
    version: int
    cluster: str
    at: datetime
    rules: tuple[str, ...]
    problems: list[str]
    workloads: list[WorkloadResult]


def write(audit: Audit, _: Namespace) -> None:
    counts = audit.by_rule()
    value = {
        "version": VERSION,
        "cluster": audit.cluster,
        "at": audit.at.isoformat(timespec="seconds"),
        "rules": audit.rules,
        "problems": audit.problems,
        "totals": audit.totals(),
        "namespaces": [
            {
                "name": namespace,
                "workloads": totals,
                "rules": {rule: counts[namespace, rule] for rule in audit.rules},
            }
            for namespace, totals in audit.by_namespace().items()
        ],
        "workloads": [asdict(result) | {"outcome": result.outcome} for result in audit.workloads],
    }
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value)) + b"\n")


def read(data: bytes) -> Audit:
    """The audit in a file that `write` wrote. Raises NotAnAudit."""
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotAnAudit(f"not what `batten audit --format json` writes: {error}") from None
    if document.version != VERSION:
        raise NotAnAudit(f"version {document.version} of the format is not known")
    return Audit(
        document.cluster, document.at, document.workloads, document.rules, document.problems
    )
