"""The status of policies and exceptions, as the controller finds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.events import Event, of_exception
from batten_operator.policies import EXCEPTIONS, POLICIES, ROOT
from batten_webhooks.audit import Audit
from batten_webhooks.governance import (
    EXPIRES_SOON,
    Exemption,
    GoverningPolicy,
    conflicts,
)
from batten_webhooks.resources import Invalid, read_exception, read_policy


async def write(cluster: Cluster, budget: WriteBudget, audit: Audit, now: float) -> list[Event]:
    """Write each status that differs; `now` is in Unix seconds. What is to be told of besides is
    returned. Raises ApiError."""
    items = (await cluster.get(f"{ROOT}/{POLICIES}"))["items"]
    read = {item["metadata"]["name"]: _read(read_policy, item) for item in items}
    policies = [policy for policy in read.values() if isinstance(policy, GoverningPolicy)]
    for item in items:
        status = _policy_status(item, read[item["metadata"]["name"]], policies, audit)
        await _put(cluster, budget, POLICIES, item, status)
    events = []
    for item in (await cluster.get(f"{ROOT}/{EXCEPTIONS}"))["items"]:
        found = _read(read_exception, item)
        status = _exception_status(item, found, now)
        soon = _condition(status["conditions"], "ExpiresSoon")
        before = _condition((item.get("status") or {}).get("conditions") or [], "ExpiresSoon")
        if soon["status"] == "True" and before.get("status") != "True":
            metadata = item["metadata"]
            events.append(of_exception(metadata["name"], metadata["uid"], soon["message"]))
        await _put(cluster, budget, EXCEPTIONS, item, status)
    return events


def _read(read: Any, item: Object) -> Any:
    """Lists leave out what each of their objects is."""
    kind = "HardeningPolicy" if read is read_policy else "HardeningException"
    try:
        return read({"apiVersion": "batten.dev/v1alpha1", "kind": kind, **item})
    except Invalid as error:
        return error


async def _put(
    cluster: Cluster, budget: WriteBudget, plural: str, item: Object, status: Object
) -> None:
    if item.get("status") == status:
        return
    await budget.take()
    path = f"{ROOT}/{plural}/{item['metadata']['name']}/status"
    try:
        await cluster.replace(path, {**item, "status": status} | _head(plural))
    except ApiError as error:
        if error.status not in {404, 409}:  # gone, or changed meanwhile: the next look sees it
            raise


def _head(plural: str) -> Object:
    kind = "HardeningPolicy" if plural == POLICIES else "HardeningException"
    return {"apiVersion": "batten.dev/v1alpha1", "kind": kind}


def _policy_status(
    item: Object,
    read: GoverningPolicy | Invalid,
    policies: Sequence[GoverningPolicy],
    audit: Audit,
) -> Object:
    rivals = []
    if isinstance(read, GoverningPolicy):
        rivals = conflicts(read, [other for other in policies if other.name != read.name])
    title = f'HardeningPolicy "{item["metadata"]["name"]}"'
    met = [workload for workload in audit.workloads if workload.policy == title]
    changed = [w for w in met if any(remark.outcome == "changed" for remark in w.remarks)]
    conditions = [
        _accepted(read),
        {
            "type": "Conflict",
            "status": "True" if rivals else "False",
            "reason": "SamePriority" if rivals else "NoConflict",
            "message": "; ".join(rivals)[:32768]
            or "no policy of this priority may match the same Pods",
        },
    ]
    return {
        "observedGeneration": item["metadata"]["generation"],
        "conditions": _kept(item, conditions),
        "workloads": {
            "governed": len(met),
            "changed": len(changed),
            "refused": sum(workload.outcome == "refused" for workload in met),
        },
    }


def _exception_status(item: Object, read: Exemption | Invalid, now: float) -> Object:
    left = read.expires - now if isinstance(read, Exemption) else EXPIRES_SOON
    soon, expired = 0 < left < EXPIRES_SOON, left <= 0
    ends = item.get("spec", {}).get("expires", "")
    conditions = [
        _accepted(read),
        {
            "type": "ExpiresSoon",
            "status": "True" if soon else "False",
            "reason": "EndsWithin14Days" if soon else "EndsLater" if not expired else "HasEnded",
            "message": f"it ends at {ends}: what it lifts will be refused or changed then",
        },
        {
            "type": "Expired",
            "status": "True" if expired else "False",
            "reason": "HasEnded" if expired else "InForce",
            "message": f"it ended at {ends}" if expired else f"it holds until {ends}",
        },
    ]
    generation = item["metadata"]["generation"]
    return {"observedGeneration": generation, "conditions": _kept(item, conditions)}


def _accepted(read: object) -> Object:
    wrong = isinstance(read, Invalid)
    return {
        "type": "Accepted",
        "status": "False" if wrong else "True",
        "reason": "Invalid" if wrong else "Valid",
        "message": str(read)[:32768] if wrong else "it is in force",
    }


def _kept(item: Object, conditions: Iterable[Object]) -> list[Object]:
    """With the time of the last transition, which stays while the status does."""
    before = (item.get("status") or {}).get("conditions") or []
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kept = []
    for condition in conditions:
        old = _condition(before, condition["type"])
        same = old.get("status") == condition["status"]
        since = old.get("lastTransitionTime", now) if same else now
        generation = item["metadata"]["generation"]
        kept.append({**condition, "lastTransitionTime": since, "observedGeneration": generation})
    return kept


def _condition(conditions: Iterable[Object], kind: str) -> Object:
    return next((each for each in conditions if each.get("type") == kind), {})
