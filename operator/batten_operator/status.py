"""The status of policies and exceptions, as the controller finds it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.events import Event, of_exception
from batten_operator.policies import EXCEPTIONS, POLICIES, ROOT, Policies
from batten_webhooks.audit import Audit
from batten_webhooks.governance import EXPIRES_SOON, Exemption, GoverningPolicy, conflicts
from batten_webhooks.resources import Invalid

logger = logging.getLogger(__name__)

LONGEST = 32768  # of a condition's message, by the API


async def write(
    cluster: Cluster, budget: WriteBudget, policies: Policies, audit: Audit, now: float
) -> list[Event]:
    """Write each status that differs, of what `policies` has read; `now` is in Unix seconds.

    What is to be told of besides is returned. Raises ApiError.
    """
    listed = {
        plural: (await cluster.get(f"{ROOT}/{plural}"))["items"]
        for plural in (POLICIES, EXCEPTIONS)
    }
    # What is known is looked at once, after the last wait: policies may be read anew meanwhile.
    governance, invalid = policies.governance, policies.invalid
    items = {plural: _known(policies, plural, found) for plural, found in listed.items()}
    governed, rivals = _workloads(audit), _rivals(governance.policies)
    for item in items[POLICIES]:
        name = item["metadata"]["name"]
        error = invalid.get((POLICIES, name))
        competing = [] if error else rivals[name]
        status = {
            "observedGeneration": item["metadata"]["generation"],
            "conditions": _kept(item, [_accepted(error), _conflict(competing)]),
            "workloads": governed.get(f'HardeningPolicy "{name}"', _counts(Counter())),
        }
        await _put(cluster, budget, POLICIES, item, status)
    events = []
    for item in items[EXCEPTIONS]:
        metadata = item["metadata"]
        error = invalid.get((EXCEPTIONS, metadata["name"]))
        exemption = None if error else governance.exemption(metadata["name"])
        status = _exception_status(item, error, exemption, now)
        soon = _condition(status["conditions"], "ExpiresSoon")
        before = _condition((item.get("status") or {}).get("conditions") or [], "ExpiresSoon")
        if soon["status"] == "True" and before.get("status") != "True":
            events.append(of_exception(metadata["name"], metadata["uid"], soon["message"]))
        await _put(cluster, budget, EXCEPTIONS, item, status)
    return events


def _known(policies: Policies, plural: str, items: Iterable[Object]) -> list[Object]:
    """Without those that have changed since they were read: the next look sees them."""
    return [item for item in items if policies.knows(plural, item["metadata"])]


async def _put(
    cluster: Cluster, budget: WriteBudget, plural: str, item: Object, status: Object
) -> None:
    if item.get("status") == status:
        return
    await budget.take()
    path = f"{ROOT}/{plural}/{item['metadata']['name']}/status"
    try:
        await cluster.replace(path, {**item, "status": status})
    except ApiError as error:
        if error.passing:
            raise
        if error.status not in {404, 409}:  # gone, or changed meanwhile: the next look sees it
            logger.warning("status not written: %s", error)


def _workloads(audit: Audit) -> dict[str, Object]:
    """What a policy's status says of its workloads, by the policy's title."""
    counted: dict[str, Counter[str]] = {}
    for workload in audit.workloads:
        counts = counted.setdefault(workload.policy, Counter())
        counts["governed"] += 1
        counts["changed"] += any(remark.outcome == "changed" for remark in workload.remarks)
        counts["refused"] += workload.outcome == "refused"
    return {title: _counts(counts) for title, counts in counted.items()}


def _counts(counts: Counter[str]) -> Object:
    return {each: counts[each] for each in ("governed", "changed", "refused")}


def _rivals(policies: Iterable[GoverningPolicy]) -> dict[str, list[str]]:
    """What competes with each policy, by its name."""
    equals: dict[int, list[GoverningPolicy]] = {}
    for policy in policies:
        equals.setdefault(policy.priority, []).append(policy)
    return {
        policy.name: conflicts(policy, [other for other in group if other is not policy])
        for group in equals.values()
        for policy in group
    }


def _conflict(competing: list[str]) -> Object:
    none = "no policy of this priority may match the same Pods"
    return {
        "type": "Conflict",
        "status": "True" if competing else "False",
        "reason": "SamePriority" if competing else "NoConflict",
        "message": "; ".join(competing)[:LONGEST] or none,
    }


def _exception_status(
    item: Object, error: Invalid | None, exemption: Exemption | None, now: float
) -> Object:
    left = exemption.expires - now if exemption else EXPIRES_SOON
    soon, expired = 0 < left < EXPIRES_SOON, left <= 0
    ends = item.get("spec", {}).get("expires", "")
    conditions = [
        _accepted(error),
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


def _accepted(error: Invalid | None) -> Object:
    return {
        "type": "Accepted",
        "status": "False" if error else "True",
        "reason": "Invalid" if error else "Valid",
        "message": str(error)[:LONGEST] if error else "it is in force",
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
