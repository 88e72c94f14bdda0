"""The guard of Namespaces' labels: who may not write HardeningPolicies may not choose among them.

The webhook's matchConditions let those who may pass by themselves, and everything that leaves the
labels alone: what arrives here is judged.
"""

from __future__ import annotations

from typing import Any

from batten_webhooks.governance import Governance
from batten_webhooks.messages import printable
from batten_webhooks.review import (
    Answer,
    BadReview,
    GroupVersionKind,
    PodRequest,
    answer,
    decode_request,
    object_of,
)
from batten_webhooks.selectors import Labels

NAMESPACE = GroupVersionKind("", "v1", "Namespace")


def judge_namespace(body: bytes, governance: Governance) -> Answer:
    """The answer to a review of a Namespace. Raises BadReview."""
    request = decode_request(body)
    if isinstance(request, PodRequest) or request.kind != NAMESPACE:
        raise BadReview(400, "request.kind: only Namespaces are guarded here")
    new = _labels(object_of(request.object, "object"))
    old = _labels(object_of(request.oldObject, "oldObject"))
    changed = [
        key
        for key in sorted(governance.namespace_keys)
        if (key in new, new.get(key)) != (key in old, old.get(key))
    ]
    if not changed or request.operation == "DELETE":
        return answer(request, {"uid": request.uid, "allowed": True})
    message = _message(request.name, changed, governance)
    status = {"status": "Failure", "code": 403, "reason": "Forbidden", "message": message}
    causes = [
        {
            "reason": "FieldValueForbidden",
            "message": "HardeningPolicies select by this label",
            "field": f"metadata.labels[{key}]",
        }
        for key in changed
    ]
    details = {"name": printable(request.name), "kind": "Namespace", "causes": causes}
    response = {"uid": request.uid, "allowed": False, "status": {**status, "details": details}}
    return answer(request, response)


def _message(name: str, changed: list[str], governance: Governance) -> str:
    lines = [f'Namespace "{printable(name)}": its labels decide which HardeningPolicy governs it:']
    for key in changed:
        policies = [f'"{p.name}"' for p in governance.policies if key in p.namespaces.keys]
        more = f" and {len(policies) - 3} more" if policies[3:] else ""
        lines.append(f"  metadata.labels[{key}]: {', '.join(policies[:3])}{more} selects by it")
    lines.append("Leave them as they are, or ask somebody who may update hardeningpolicies")
    return "\n".join(lines)


def _labels(value: Any) -> Labels:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return labels if isinstance(labels, dict) else {}
