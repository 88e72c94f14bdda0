"""Who wrote what a scan says: an annotation that the webhook sets, and nobody else can.

    batten.dev/written-by: system:serviceaccount:trivy-system:trivy-operator

Whoever may write such an object could forge a scan. What he cannot forge is his name: the API
server tells it with each review. A change of anything but the content leaves the author as he was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batten_webhooks.verdict import pointer_token
from batten_webhooks.workload import Kind

WRITTEN_BY = "batten.dev/written-by"
# Where the content stands in each kind.
SCANS: Mapping[Kind, str] = {
    Kind("batten.dev", "ImageScan"): "spec",
    Kind("aquasecurity.github.io", "VulnerabilityReport"): "report",
    Kind("aquasecurity.github.io", "ClusterVulnerabilityReport"): "report",
}
_ANNOTATIONS = "/metadata/annotations"


def operations(kind: Kind, value: Any, old: Any, user: str) -> list[dict[str, Any]]:
    """JSON Patch operations that make the annotation true; `old` is None for what is created."""
    there = _annotations(value)
    said = there.get(WRITTEN_BY) if there is not None else None
    author: Any = user
    if old is not None and _content(kind, old) == _content(kind, value):
        author = (_annotations(old) or {}).get(WRITTEN_BY)
    if said == author:
        return []
    path = f"{_ANNOTATIONS}/{pointer_token(WRITTEN_BY)}"
    if author is None:
        return [{"op": "remove", "path": path}]
    if there is None:
        return [{"op": "add", "path": _ANNOTATIONS, "value": {WRITTEN_BY: author}}]
    return [{"op": "add", "path": path, "value": author}]


def _content(kind: Kind, value: Any) -> Any:
    return value.get(SCANS[kind]) if isinstance(value, dict) else None


def _annotations(value: Any) -> Mapping[str, Any] | None:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return annotations if isinstance(annotations, dict) else None
