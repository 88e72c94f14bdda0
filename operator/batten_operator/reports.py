"""What the workloads of the cluster meet, as reports: one per workload, only where it has changed.

Of OpenReports (openreports.io/v1alpha1, Report) where its definition is installed, else of the
Policy Working Group's (wgpolicyk8s.io/v1alpha2, PolicyReport). Each is owned by its workload, so
that the garbage collector deletes it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster, Object
from batten_webhooks.audit import OUTCOMES, Audit, Outcome, Owner, WorkloadResult, by_rule

logger = logging.getLogger(__name__)

SOURCE = "batten"
DIGEST = "batten.dev/report-digest"
MANAGED = {"app.kubernetes.io/managed-by": "batten"}
# A report names this many findings; its summary counts all rules.
MOST_RESULTS = 50
LONGEST_MESSAGE = 1_000
PAGE = 500
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


async def write(cluster: Cluster, budget: WriteBudget, audit: Audit, owners: list[Owner]) -> None:
    """Bring the reports into line with the audit; `owners` are those of its workloads.

    Raises ApiError.
    """
    kind = await installed(cluster)
    if kind is None:
        return
    present = await _present(cluster, kind)
    for owner, result in zip(owners, audit.workloads, strict=True):
        report = _report(kind, owner, result, audit.rules)
        metadata = report["metadata"]
        key = metadata["namespace"], metadata["name"]
        known = present.pop(key, None)
        if known != metadata["annotations"][DIGEST]:
            await budget.take()
            await _put(cluster, kind, report, create=known is None)
    for namespace, name in present:  # of workloads that are gone, or are no longer judged
        await budget.take()
        try:
            await cluster.delete(_path(kind, namespace, name))
        except ApiError as error:
            if error.status != 404:
                raise


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


async def _put(cluster: Cluster, kind: Kind, report: Object, *, create: bool) -> None:
    metadata = report["metadata"]
    try:
        if create:
            await cluster.create(_path(kind, metadata["namespace"]), report)
        else:
            await cluster.merge(_path(kind, metadata["namespace"], metadata["name"]), report)
    except ApiError as error:
        # Gone or made meanwhile, or its namespace ends: the next look sees it.
        if error.status not in {403, 404, 409}:
            raise
        logger.info("report not written: %s", error)


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
