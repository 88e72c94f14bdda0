"""A namespace full of workloads that break the policy, older than the installation, lives on: it is
scaled, relabelled, rolled back and deleted, and nothing gets stuck."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from batten_e2e import IMAGE, Kubectl, Namespace, eventually, new_namespace

pytestmark = pytest.mark.cluster

ROOT: dict[str, Any] = {"securityContext": {"runAsUser": 0, "privileged": True}}
UNCHANGED = "the Pod template is unchanged, so the update is let through"
Without = Callable[[], AbstractContextManager[None]]


def template(name: str, **container: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "app", "image": IMAGE, **container}]},
    }


def workload(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    version = "batch/v1" if kind in {"Job", "CronJob"} else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def selected(name: str, **container: Any) -> dict[str, Any]:
    labels = {"matchLabels": {"app": name}}
    return {"selector": labels, "template": template(name, **container)}


def job() -> dict[str, Any]:
    found = template("job", **ROOT)
    found["spec"]["restartPolicy"] = "Never"
    return {"template": found}


VIOLATING = (
    workload("Deployment", "web", replicas=2, **selected("web", **ROOT)),
    workload("StatefulSet", "db", replicas=1, serviceName="db", **selected("db", **ROOT)),
    workload("DaemonSet", "agent", **selected("agent", **ROOT)),
    workload("Job", "once", **job()),
    workload("CronJob", "nightly", schedule="0 3 * * *", jobTemplate={"spec": job()}),
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare"},
        "spec": template("bare", **ROOT)["spec"],
    },
)
NAMES = ("deployment/web", "statefulset/db", "daemonset/agent", "job/once", "cronjob/nightly")


@pytest.fixture
def old(kubectl: Kubectl, without_batten: Without) -> Iterator[Namespace]:
    with new_namespace(kubectl, f"old-{uuid.uuid4().hex[:8]}") as namespace:
        with without_batten():
            namespace.apply(*VIOLATING).require()
            namespace.pods(2, "app=web")
        yield namespace


def patched(namespace: Namespace, name: str, patch: Any, *options: str) -> Any:
    return namespace.kubectl("patch", name, "--type=merge", "-p", json.dumps(patch), *options)


def test_metadata_and_finalizers_of_everything_go_through(old: Namespace) -> None:
    for name in NAMES:
        labelled = old.kubectl("label", name, "team=shop").require()
        assert UNCHANGED in labelled.stderr, name
        old.kubectl("annotate", name, "note=mine").require()
        patched(old, name, {"metadata": {"finalizers": ["example.com/held"]}}).require()
        patched(old, name, {"metadata": {"finalizers": None}}).require()
    old.kubectl("label", "pod/bare", "team=shop").require()
    patched(old, "pod/bare", {"metadata": {"finalizers": ["example.com/held"]}}).require()
    patched(old, "pod/bare", {"metadata": {"finalizers": None}}).require()


def test_scaling_and_status_go_through(old: Namespace) -> None:
    old.kubectl("scale", "deployment/web", "--replicas=3").require()
    old.kubectl("scale", "statefulset/db", "--replicas=0").require()
    patched(old, "cronjob/nightly", {"spec": {"suspend": True}}).require()
    patched(old, "deployment/web", {"spec": {"replicas": 1}}).require()
    condition = {"type": "Tested", "status": "True", "reason": "Test", "message": ""}
    status = {"status": {"conditions": [condition]}}
    patched(old, "deployment/web", status, "--subresource=status").require()
    # Its Pods are not made again: they are refused, and the ReplicaSet says why.
    old.kubectl("delete", "pods", "-l", "app=web", "--wait=false").require()

    def told() -> str | None:
        events = old.get("events", "--field-selector=reason=FailedCreate")["items"]
        return next((e["message"] for e in events if "no-privileged" in e["message"]), None)

    eventually(told, "the ReplicaSet's event", 60)


def test_a_rollback_goes_where_it_is_safe(old: Namespace, without_batten: Without) -> None:
    mended = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": IMAGE}]}}}}
    patched(old, "deployment/web", mended).require()
    history = old.kubectl("rollout", "undo", "deployment/web")
    assert history.code == 1
    assert "no-privileged" in history.stderr
    assert old.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0].get(
        "securityContext"
    ) in (None, {})
    old.pods(1, "app=web")
    with without_batten():
        broken = {"spec": {"template": template("web", **ROOT)}}
        patched(old, "deployment/web", broken).require()
    old.kubectl("rollout", "undo", "deployment/web").require()
    old.pods(1, "app=web")


def test_deletion_and_garbage_collection_end(old: Namespace, kubectl: Kubectl) -> None:
    old.kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=60s").require()
    assert old.get("replicasets")["items"] == []
    old.kubectl("delete", "job", "once", "--timeout=60s").require()
    kubectl("delete", "namespace", old.name, "--wait=false").require()
    eventually(
        lambda: kubectl("get", "namespace", old.name).code or None, "the namespace is gone", 90
    )
