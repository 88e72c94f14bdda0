"""What was applied stays what was applied: GitOps finds no difference that Batten made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batten_e2e import IMAGE, Namespace, eventually

pytestmark = pytest.mark.cluster

LABELS = {"app": "web"}
POD = {"containers": [{"name": "app", "image": IMAGE}]}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
NEVER = {"metadata": {"labels": LABELS}, "spec": {**POD, "restartPolicy": "Never"}}
SELECTED = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}

KINDS: dict[str, dict[str, Any]] = {
    "Deployment": {"apiVersion": "apps/v1", "spec": {"replicas": 0, **SELECTED}},
    "StatefulSet": {"apiVersion": "apps/v1", "spec": {"serviceName": "web", **SELECTED}},
    "DaemonSet": {"apiVersion": "apps/v1", "spec": SELECTED},
    "ReplicaSet": {"apiVersion": "apps/v1", "spec": {"replicas": 0, **SELECTED}},
    "ReplicationController": {
        "apiVersion": "v1",
        "spec": {"replicas": 0, "selector": LABELS, "template": TEMPLATE},
    },
    "Job": {"apiVersion": "batch/v1", "spec": {"template": NEVER, "suspend": True}},
    "CronJob": {
        "apiVersion": "batch/v1",
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": NEVER}}},
    },
    "PodTemplate": {"apiVersion": "v1", "template": TEMPLATE},
}


def named(kind: str) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "web"}, **KINDS[kind]}


@pytest.mark.parametrize("side", ["--server-side=false", "--server-side=true"])
@pytest.mark.parametrize("kind", KINDS)
def test_kubectl_finds_no_difference(namespace: Namespace, kind: str, side: str) -> None:
    text = json.dumps(named(kind))
    namespace.kubectl("apply", side, "-f", "-", stdin=text).require()

    def same() -> bool | None:
        """Once its controller is done with it: what differs because of us stays different."""
        done = namespace.kubectl("diff", side, "-f", "-", stdin=text)
        return True if (done.code, done.stdout) == (0, "") else None

    eventually(same, f"kubectl diff of a {kind} is empty", 10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_three_way_comparison_finds_none(namespace: Namespace, kind: str) -> None:
    """As Argo CD and Flux compare: what a server-side dry run predicts, and what is live."""
    text = json.dumps(named(kind))
    apply = ("apply", "--server-side", "--field-manager=gitops", "-f", "-")
    namespace.kubectl(*apply, stdin=text).require()
    predicted = json.loads(
        namespace.kubectl(*apply, "--dry-run=server", "-o", "json", stdin=text).require().stdout
    )
    live = namespace.get(kind, "web")
    assert compared(predicted) == compared(live)


def compared(value: dict[str, Any]) -> dict[str, Any]:
    """Without what controllers write meanwhile."""
    metadata = {
        key: each
        for key, each in value["metadata"].items()
        if key not in {"managedFields", "resourceVersion", "generation"}
    }
    return {**{k: v for k, v in value.items() if k != "status"}, "metadata": metadata}


def test_a_bare_pod_is_the_exception_and_can_be_applied_again(namespace: Namespace) -> None:
    """Its own spec is changed, so that a comparison shows it; applying it again changes nothing."""
    value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": POD}
    namespace.apply(value).require()
    first = namespace.get("pod", "web")
    again = namespace.apply(value).require()
    second = namespace.get("pod", "web")
    assert "pod/web" in again.stdout
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert second["spec"] == first["spec"]
    changed = {**value, "metadata": {"name": "web", "labels": {"team": "a"}}}
    namespace.apply(changed).require()
    assert namespace.get("pod", "web")["spec"] == first["spec"]
