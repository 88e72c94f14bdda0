"""What the workloads of the cluster meet, as reports: one per workload, only where it has changed.

Of OpenReports (openreports.io/v1alpha1, Report) where its definition is installed, else of the
Policy Working Group's (wgpolicyk8s.io/v1alpha2, PolicyReport). Each is owned by its workload, so
that the garbage collector deletes it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from secrets import SystemRandom
from typing import Any
from urllib.parse import quote

import msgspec

from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.scan import Scan
from batten_webhooks.audit import OUTCOMES, Audit, Outcome, Owner, WorkloadResult, by_rule

logger = logging.getLogger(__name__)

SOURCE = "batten"
DIGEST = "batten.dev/report-digest"
MANAGED = {"app.kubernetes.io/managed-by": "batten"}
# A report names this many findings; its summary counts all rules.
MOST_RESULTS = 50
LONGEST_MESSAGE = 1_000
PAGE = 500
_RANDOM = SystemRandom()
RESULTS: dict[Outcome, str] = {
    "compliant": "pass",
    "changed": "pass",
    "warned": "warn",
    "excepted": "skip",
    "refused": "fail",
}


@dataclass(frozen=True, slots=True)
class Kind:
    version: str
    kind: str
    plural: str

    @property
    def root(self) -> str:
        return f"/apis/{self.version}"


KINDS = (
    Kind("openreports.io/v1alpha1", "Report", "reports"),
    Kind("wgpolicyk8s.io/v1alpha2", "PolicyReport", "policyreports"),
)


async def installed(cluster: Cluster) -> Kind | None:
    """The kind of report that is defined here. Raises ApiError."""
    for kind in KINDS:
        try:
            found = await cluster.get(kind.root)
        except ApiError as error:
            if error.status == 404:
                continue
            raise
        if any(each["name"] == kind.plural for each in found.get("resources") or ()):
            return kind
    return None


async def write(
    cluster: Cluster, budget: WriteBudget, scan: Scan, audit: Audit, seconds: float
) -> bool:
    """Bring the reports into line with the audit that this scan gave.

    Where it could not read everything none is deleted: what is not in it may be there all the same.
    After so many `seconds` the rest is left to the next look, and False returned; which ones these
    are is left to chance, so that none has to wait for those that change all the time. Raises
    ApiError.
    """
    kind = await installed(cluster)
    if kind is None:
        return True
    ends = time.monotonic() + seconds
    present = await _present(cluster, kind)
    due: list[Callable[[], Awaitable[None]]] = []
    for owner, result in zip(scan.owners, audit.workloads, strict=True):
        report = partial(_report, kind, owner, result, audit.rules)
        metadata = report()["metadata"]
        known = present.pop((metadata["namespace"], metadata["name"]), None)
        if known != metadata["annotations"][DIGEST]:
            # Made again when it is its turn: thousands of them are not held meanwhile.
            due.append(partial(_put, cluster, kind, report, create=known is None))
        await asyncio.sleep(0)  # the Lease waits for one of them at most
    if scan.unread is None:  # the others' workloads are gone, or are no longer judged
        due += [partial(_delete, cluster, kind, *each) for each in present]
    _RANDOM.shuffle(due)
    while due and time.monotonic() < ends:
        await budget.take()
        await due.pop()()
    return not due


async def _present(cluster: Cluster, kind: Kind) -> dict[tuple[str, str], str]:
    """The digests of our reports by namespace and name."""
    found = {}
    label = quote(",".join(f"{key}={value}" for key, value in MANAGED.items()))
    token = ""
    while True:
        query = f"labelSelector={label}&limit={PAGE}" + (
            f"&continue={quote(token)}" if token else ""
        )
        page = await cluster.get(f"{kind.root}/{kind.plural}?{query}")
        for item in page["items"]:
            metadata = item["metadata"]
            digest = (metadata.get("annotations") or {}).get(DIGEST, "")
            found[metadata["namespace"], metadata["name"]] = digest
        token = page["metadata"].get("continue") or ""
        if not token:
            return found


async def _put(cluster: Cluster, kind: Kind, made: Callable[[], Object], *, create: bool) -> None:
    report = made()
    metadata = report["metadata"]
    try:
        if create:
            await cluster.create(_path(kind, metadata["namespace"]), report)
        else:
            await cluster.merge(_path(kind, metadata["namespace"], metadata["name"]), report)
    except ApiError as error:
        if error.passing:
            raise
        # Gone or made meanwhile, or its namespace ends, or it is not taken: others are.
        logger.info("report not written: %s", error)


async def _delete(cluster: Cluster, kind: Kind, namespace: str, name: str) -> None:
    try:
        await cluster.delete(_path(kind, namespace, name))
    except ApiError as error:
        if error.passing:
            raise
        if error.status != 404:
            logger.info("report not deleted: %s", error)


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    path = f"{kind.root}/namespaces/{namespace}/{kind.plural}"
    return f"{path}/{name}" if name else path


def _report(kind: Kind, owner: Owner, result: WorkloadResult, rules: tuple[str, ...]) -> Object:
    reference = {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name}
    identity = f"{owner.api_version}/{owner.kind}/{owner.name}".encode()
    body: Object = {
        "scope": {**reference, "namespace": owner.namespace, "uid": owner.uid},
        "summary": _summary(result, rules),
        "results": list(_results(result)),
    }
    digest = hashlib.sha256(msgspec.json.encode([body, owner.uid])).hexdigest()
    metadata: Object = {
        "name": f"batten-{hashlib.sha256(identity).hexdigest()[:20]}",
        "namespace": owner.namespace,
        "labels": MANAGED,
        "annotations": {DIGEST: digest},
    }
    if owner.uid:
        metadata["ownerReferences"] = [{**reference, "uid": owner.uid}]
    return {"apiVersion": kind.version, "kind": kind.kind, "metadata": metadata, **body}


def _summary(result: WorkloadResult, rules: tuple[str, ...]) -> dict[str, int]:
    """Rules by the worst that each says."""
    counts = dict.fromkeys(("pass", "fail", "warn", "error", "skip"), 0)
    worst = by_rule(result)
    for rule in {*rules, *worst}:
        counts[RESULTS[worst.get(rule, "compliant")]] += 1
    return counts


def _results(result: WorkloadResult) -> Iterator[dict[str, Any]]:
    """The worst come first."""
    ordered = sorted(result.remarks, key=lambda remark: -OUTCOMES.index(remark.outcome))
    for remark in ordered[:MOST_RESULTS]:
        subject = f'container "{remark.container}": ' if remark.container else ""
        properties = {"outcome": remark.outcome, "path": remark.path, "remedy": remark.remedy}
        if remark.exception:
            properties["exception"] = remark.exception
        yield {
            "source": SOURCE,
            "policy": result.policy,
            "rule": remark.rule,
            "result": RESULTS[remark.outcome],
            "scored": remark.outcome == "refused",
            "message": f"{subject}{remark.detail}"[:LONGEST_MESSAGE],
            "properties": {key: text[:LONGEST_MESSAGE] for key, text in properties.items()},
        }
