"""Audits to render: of the corpus' real manifests, and of names that an attacker would choose."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from batten_corpus import CORPUS

from batten_webhooks.audit import Audit, Judged, Outcome, Owner, Remark, Tally, WorkloadResult
from batten_webhooks.cli.files import Source, Unrelated, Unusable, parse, read, subjects
from batten_webhooks.engine import evaluate
from batten_webhooks.policy import PRESETS
from batten_webhooks.workload import TEMPLATE_PATHS, Workload

HARDENED = PRESETS["hardened"]
VERSIONS = {kind.kind: f"{kind.group}/v1" for kind in TEMPLATE_PATHS if kind.group}
AT = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
RULES = tuple(setting.rule.name for setting in HARDENED.settings)
HOSTILE = (
    "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202egnp.exe\x00\x1b[31m"
)


def hostile() -> Audit:
    """Every text is an attack; one workload of each outcome."""
    outcomes: tuple[Outcome, ...] = ("refused", "excepted", "warned", "changed")
    workloads = [
        WorkloadResult(
            namespace=HOSTILE,
            kind=HOSTILE,
            name=HOSTILE,
            pods=1,
            policy=HOSTILE,
            why=HOSTILE,
            remarks=(
                Remark(
                    "no-privileged", outcome, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE
                ),
            ),
        )
        for outcome in outcomes
    ]
    workloads.append(WorkloadResult("plain", "Job", "kept", 0, "default", ""))
    return Audit(HOSTILE, AT, workloads, RULES, [HOSTILE])


def real() -> Audit:
    """The corpus' manifests as if they ran, a project a namespace, under the hardened preset."""
    tally = Tally()
    for file in sorted((CORPUS / "manifests").rglob("*.y*ml")):
        project = file.relative_to(CORPUS / "manifests").parts[0].replace("+", "-").lower()
        for workload in _workloads(file):
            owner = Owner(project, VERSIONS.get(workload.kind, "v1"), workload.kind, workload.name)
            verdict = evaluate(workload, HARDENED)
            tally.add(owner, Judged(workload, verdict, "hardened", "the preset"))
    return Audit("demo.example.com", AT, tally.results(), RULES)


def many(audit: Audit, number: int) -> Audit:
    """The same again and again, up to a number of workloads, ten namespaces each time round."""
    repeated = [
        WorkloadResult(
            f"{found.namespace}-{turn}",
            found.kind,
            found.name,
            found.pods,
            found.policy,
            found.why,
            found.remarks,
        )
        for turn in range(number // len(audit.workloads) + 1)
        for found in audit.workloads
    ]
    return Audit(audit.cluster, audit.at, repeated[:number], audit.rules)


def _workloads(file: Path) -> Iterator[Workload]:
    source = Source(str(file), named=False)
    try:
        found = subjects(source, parse(source, read(source)), TEMPLATE_PATHS)
    except (Unrelated, Unusable):
        return
    for subject in found:
        yield subject.workload
