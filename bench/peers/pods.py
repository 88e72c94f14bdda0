"""The Pods that are applied and reviewed."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from bench import reviews

Object = dict[str, Any]
IMAGE = f"registry.example/team/app:1.4.2@{reviews.DIGEST}"


def usual() -> Object:
    """That of `bench.reviews`, as whoever creates it sends it."""
    pod = deepcopy(reviews.pod())
    for field in ("uid", "creationTimestamp", "managedFields", "namespace"):
        del pod["metadata"][field]
    return pod


def small(containers: int = 1, env_bytes: int = 0) -> Object:
    """About 2 KB as a review; each container more is 200 bytes. `env_bytes` are in variables of a
    kilobyte each."""
    first = container("app-0")
    if env_bytes:
        count = max(1, env_bytes // 1000)
        value = "x" * (env_bytes // count)
        first["env"] = [{"name": f"SETTING_{index}", "value": value} for index in range(count)]
    others = (container(f"app-{index}") for index in range(1, containers))
    return pod([first, *others])


def pod(containers: list[Object], **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-", "labels": {"app.kubernetes.io/name": "web"}},
        "spec": {"containers": containers, **spec},
    }


def container(name: str = "app", **fields: Any) -> Object:
    return {"name": name, "image": IMAGE, **fields}


def review(pod: Object) -> bytes:
    """As the API server asks about it: a dry run, so that nobody has more to do than to answer."""
    served = deepcopy(pod)
    served["metadata"] |= {"namespace": reviews.NAMESPACE, "uid": "", "creationTimestamp": None}
    spec = served["spec"]
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    return reviews.review(served, dry_run=True)
