"""Hypothesis strategies: Pods as people write them, templates, and JSON that is neither."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

Json = Any
Strategy = st.SearchStrategy[Json]

NAMES = ("app", "web", "sidecar-proxy", "a" * 63, "b" * 53, "App_1", "", "ünïcode", "0")
IMAGES = (
    "nginx",
    "nginx:1.27",
    "nginx:latest",
    "registry.example:5000/team/app:2",
    "registry.example/app@sha256:" + "a" * 64,
    "registry.example/app:latest@sha256:" + "a" * 64,
    "",
    "not an image",
)
MOUNT_PATHS = (
    "/tmp",  # noqa: S108
    "/tmp/",  # noqa: S108
    "//tmp",
    "/./tmp/.",
    "/var/../tmp",
    "/",
    "/tmp/cache",  # noqa: S108
    "/tmpfiles",  # noqa: S108
    "/data",
    "tmp",
    "",
    "/var/cache/nginx",
)
VOLUME_NAMES = ("tmp", "data", "config", "batten-tmp-app", "batten-tmp-web", "")
WRITABLE_PATHS = ("/data", "app:/run", "nobody:/x", "relative", "/", "/proc/x", "/a/../b", "", "/é")
ANNOTATION_NAMES = (
    "batten.dev/writable-paths",
    "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes",
    "other/annotation",
)
PROFILE_TYPES = ("RuntimeDefault", "Localhost", "Unconfined", "", None)
CAPABILITIES = ("ALL", "NET_BIND_SERVICE", "NET_RAW", "SYS_ADMIN", "CAP_SYS_ADMIN", "all")
VOLUME_SOURCES: tuple[Json, ...] = (
    {"emptyDir": {}},
    {"configMap": {"name": "c"}},
    {"secret": None, "emptyDir": {}},
    {"persistentVolumeClaim": {"claimName": "p", "readOnly": True}},
    {"image": {"reference": "model:latest"}},
    {"image": {}},
    {"hostPath": {"path": "/"}},
    {},
)

booleans: Strategy = st.sampled_from([True, False, None])
json_values: Strategy = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def _object(**fields: Strategy) -> Strategy:
    """Any of the fields, and now and then one that no rule knows."""
    future = {"futureField": st.none() | json_values}
    return st.fixed_dictionaries({}, optional=fields | future)


def _maybe(strategy: Strategy) -> Strategy:
    return st.none() | strategy


def _some(strategy: Strategy, most: int = 2) -> Strategy:
    return _maybe(st.lists(strategy, max_size=most))


profiles: Strategy = _object(
    type=st.sampled_from(PROFILE_TYPES), localhostProfile=st.just("p.json")
)
capabilities: Strategy = _object(
    add=_some(st.sampled_from(CAPABILITIES)), drop=_some(st.sampled_from(CAPABILITIES))
)
groups: Strategy = st.sampled_from([0, 1000, 2000, None])
sysctls: Strategy = st.just([{"name": "net.ipv4.tcp_syncookies", "value": "1"}])

SHARED: dict[str, Strategy] = {
    "runAsNonRoot": booleans,
    "runAsUser": groups,
    "runAsGroup": groups,
    "seccompProfile": _maybe(profiles),
}
CONTAINERS: dict[str, Strategy] = {
    "readOnlyRootFilesystem": booleans,
    "allowPrivilegeEscalation": booleans,
    "privileged": booleans,
    "procMount": st.sampled_from(["Default", "Unmasked", None]),
    "capabilities": _maybe(capabilities),
}
PODS: dict[str, Strategy] = {
    "fsGroup": groups,
    "fsGroupChangePolicy": st.sampled_from(["Always", "OnRootMismatch", "Never", None]),
    "supplementalGroups": _some(st.integers(0, 3)),
    "sysctls": _maybe(sysctls),
}


def _with_misplaced(proper: dict[str, Strategy], misplaced: dict[str, Strategy]) -> Strategy:
    """Fields of a place, in one case of three with others that do not belong there."""
    return st.one_of(_object(**proper), _object(**proper), _object(**proper, **misplaced))


container_security: Strategy = _with_misplaced(SHARED | CONTAINERS, PODS)
pod_security: Strategy = _with_misplaced(SHARED | PODS, CONTAINERS)
handlers: Strategy = st.sampled_from(
    [
        None,
        {},
        {"sleep": {"seconds": 5}},
        {"sleep": {"seconds": 500}},
        {"exec": {"command": ["x"]}},
        {"httpGet": {"port": "http", "host": "127.0.0.1"}},
    ]
)
mounts: Strategy = st.fixed_dictionaries(
    {"name": st.sampled_from(VOLUME_NAMES), "mountPath": st.sampled_from(MOUNT_PATHS)},
    optional={"readOnly": booleans, "subPath": st.just("x")},
)
volumes: Strategy = st.builds(
    lambda name, source: {"name": name, **source},
    st.sampled_from(VOLUME_NAMES),
    st.sampled_from(VOLUME_SOURCES),
)
CONTAINER_FIELDS: dict[str, Strategy] = {
    "name": st.sampled_from(NAMES),
    "image": _maybe(st.sampled_from(IMAGES)),
    "restartPolicy": st.sampled_from(["Always", "OnFailure", None]),
    "securityContext": _maybe(container_security),
    "lifecycle": _maybe(_object(preStop=handlers, postStart=handlers)),
    "volumeMounts": _some(mounts, 3),
    "ports": _some(_object(containerPort=st.just(80), hostPort=st.sampled_from([0, 80, None]))),
    "livenessProbe": handlers,
    "env": _some(
        st.sampled_from(
            [
                {"name": "A", "value": "b"},
                {"name": "PASSWORD", "value": "hunter2hunter2"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ]
        )
    ),
    "resources": _maybe(
        _object(requests=_maybe(st.just({"cpu": "1"})), limits=st.just({"memory": "1Gi"}))
    ),
}
containers: Strategy = _with_misplaced(CONTAINER_FIELDS, SHARED | CONTAINERS | PODS).map(
    lambda container: {"name": "app", **container}
)
pod_annotations: Strategy = st.dictionaries(
    st.sampled_from(ANNOTATION_NAMES),
    _maybe(st.lists(st.sampled_from(WRITABLE_PATHS), max_size=4).map(", ".join)),
    max_size=3,
)
SPEC_FIELDS: dict[str, Strategy] = {
    "containers": _some(containers),
    "initContainers": _some(containers),
    "ephemeralContainers": _some(containers),
    "volumes": _some(volumes, 3),
    "securityContext": _maybe(pod_security),
    "os": st.sampled_from([None, None, None, {"name": "linux"}, {"name": "windows"}]),
    "nodeSelector": st.sampled_from([None, {}, {"kubernetes.io/os": "windows"}]),
    "restartPolicy": st.sampled_from([None, "Always", "Always", "OnFailure", "Never"]),
    "terminationGracePeriodSeconds": st.sampled_from([None, 0, 3, 4, 29, 30, 31, 60, 3600, -1]),
    "hostUsers": booleans,
    "hostNetwork": booleans,
    "hostPID": booleans,
    "automountServiceAccountToken": booleans,
}
specs: Strategy = st.builds(
    lambda least, spec: {**least, **spec},
    st.fixed_dictionaries({"containers": st.lists(containers, min_size=1, max_size=2)}),
    _with_misplaced(SPEC_FIELDS, SHARED | CONTAINERS | PODS),
)
metadata: Strategy = _object(
    name=st.just("web"),
    labels=st.just({"app": "web"}),
    annotations=_maybe(pod_annotations),
    ownerReferences=_some(
        _object(kind=st.just("ReplicaSet"), name=st.just("x"), controller=booleans), 1
    ),
)
templates: Strategy = st.one_of(
    st.fixed_dictionaries({"metadata": metadata, "spec": specs}),
    st.fixed_dictionaries({"spec": specs}),
    _object(metadata=_maybe(metadata), spec=_maybe(_object(**SPEC_FIELDS))),
)
pods: Strategy = templates.map(lambda template: {"apiVersion": "v1", "kind": "Pod", **template})
deployments: Strategy = templates.map(
    lambda template: {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": template},
    }
)
cronjobs: Strategy = templates.map(
    lambda template: {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "spec": {"jobTemplate": {"spec": {"template": template}}},
    }
)
workloads: Strategy = pods | deployments | cronjobs
users: st.SearchStrategy[dict[str, str]] = st.dictionaries(
    st.sampled_from(IMAGES), st.sampled_from(["", "0", "root", "1000", "1000:0", "app", "٣"])
)


@st.composite
def broken(draw: st.DrawFn) -> Json:
    """A workload in which one value was replaced by something of another type."""
    document = copy.deepcopy(draw(workloads))
    steps = draw(st.integers(1, 8))
    node: Json = document
    for step in range(steps):
        keys: list[Json] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if step == steps - 1 or not isinstance(node[key], dict | list) or not node[key]:
            node[key] = draw(json_values)
            break
        node = node[key]
    return document
