"""Pods that differ from an allowed one in a field or a few, for every control of the standards."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

ABSENT = object()
PLAIN_INIT = "initContainers/0"
CONTAINERS = ("containers/0", PLAIN_INIT, "initContainers/1")  # the last is a sidecar

FLAG = (ABSENT, None, False, True)
USER = (ABSENT, None, 0, 1000)
HOST = (ABSENT, None, "", "192.0.2.1", "127.0.0.1", "localhost")
PROFILE: tuple[Any, ...] = (
    ABSENT,
    None,
    {},
    {"type": "RuntimeDefault"},
    {"type": "Unconfined"},
    {"type": "Localhost", "localhostProfile": "a"},
)
SELINUX: tuple[Any, ...] = (
    ABSENT,
    None,
    {},
    {"level": "s0"},
    {"type": ""},
    {"type": "container_t"},
    {"type": "container_engine_t"},
    {"type": "spc_t"},
    {"user": ""},
    {"user": "u"},
    {"role": ""},
    {"role": "r"},
)
HOST_PROCESS = {"hostProcess": True}
WINDOWS: tuple[Any, ...] = (
    ABSENT,
    None,
    {},
    {"hostProcess": None},
    {"hostProcess": False},
    HOST_PROCESS,
)
CAPABILITIES: tuple[Any, ...] = (
    ABSENT,
    None,
    {},
    {"drop": None},
    {"drop": []},
    {"drop": ["ALL"]},
    {"drop": ["all"]},
    {"drop": ["CAP_ALL"]},
    {"drop": ["NET_RAW"]},
    {"drop": ["NET_RAW", "ALL"]},
    {"drop": ["ALL"], "add": []},
    {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    {"drop": ["ALL"], "add": ["CAP_NET_BIND_SERVICE"]},
    {"drop": ["ALL"], "add": ["CHOWN"]},
    {"drop": ["ALL"], "add": ["chown"]},
    {"drop": ["ALL"], "add": ["CAP_CHOWN"]},
    {"drop": ["ALL"], "add": ["NET_RAW"]},
    {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
    {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN", "ALL"]},
)
OF_CONTAINERS = {
    "securityContext": (ABSENT, None, {}),
    "securityContext/privileged": FLAG,
    "securityContext/allowPrivilegeEscalation": FLAG,
    "securityContext/runAsNonRoot": FLAG,
    "securityContext/runAsUser": USER,
    "securityContext/procMount": (ABSENT, None, "Default", "Unmasked"),
    "securityContext/capabilities": CAPABILITIES,
    "securityContext/seccompProfile": PROFILE,
    "securityContext/appArmorProfile": PROFILE,
    "securityContext/seLinuxOptions": SELINUX,
    "securityContext/windowsOptions": WINDOWS,
    "ports": (
        None,
        [],
        [{"containerPort": 80}],
        [{"containerPort": 80, "hostPort": None}],
        [{"containerPort": 80, "hostPort": 0}],
        [{"containerPort": 80, "hostPort": 80}],
        [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}],
    ),
}
# The API server refuses them beside `allowPrivilegeEscalation: false`.
ESCALATION = "allowPrivilegeEscalation"
BESIDE_ESCALATION = (
    ("privileged", True),
    ("capabilities", {"drop": ["ALL"], "add": ["CAP_SYS_ADMIN"]}),
)
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HOOKS = ("lifecycle/postStart", "lifecycle/preStop")

SYSCTLS = (
    "kernel.shm_rmid_forced",
    "kernel/shm_rmid_forced",
    "kernel.msgmax",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_wmem",
)
VOLUMES: tuple[dict[str, Any], ...] = (
    {},
    {"emptyDir": {}},
    {"emptyDir": None},
    {"emptyDir": None, "hostPath": {"path": "/"}},
    {"hostPath": {"path": "/"}},
    {"configMap": {"name": "a"}},
    {"secret": {"secretName": "a"}},
    {"downwardAPI": {}},
    {"projected": {"sources": []}},
    {"persistentVolumeClaim": {"claimName": "a"}},
    {
        "ephemeral": {
            "volumeClaimTemplate": {
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                }
            }
        }
    },
    {"csi": {"driver": "a.example"}},
    {"image": {"reference": "app:1"}},
    {"awsElasticBlockStore": {"volumeID": "a"}},
    {"azureDisk": {"diskName": "a", "diskURI": "https://a.example/a"}},
    {"azureFile": {"secretName": "a", "shareName": "a"}},
    {"cephfs": {"monitors": ["a"]}},
    {"cinder": {"volumeID": "a"}},
    {"fc": {"targetWWNs": ["a"], "lun": 0}},
    {"flexVolume": {"driver": "a/a"}},
    {"flocker": {"datasetName": "a"}},
    {"gcePersistentDisk": {"pdName": "a"}},
    {"gitRepo": {"repository": "https://a.example/a"}},
    {"glusterfs": {"endpoints": "a", "path": "a"}},
    {"iscsi": {"targetPortal": "a", "iqn": "iqn.2001-04.com.example:a", "lun": 0}},
    {"nfs": {"server": "a", "path": "/"}},
    {"photonPersistentDisk": {"pdID": "a"}},
    {"portworxVolume": {"volumeID": "a"}},
    {"quobyte": {"registry": "a:1", "volume": "a"}},
    {"rbd": {"monitors": ["a"], "image": "a"}},
    {"scaleIO": {"gateway": "a", "system": "a", "volumeName": "a", "secretRef": {"name": "a"}}},
    {"storageos": {"volumeName": "a"}},
    {"vsphereVolume": {"volumePath": "a"}},
)
OF_PODS: dict[str, Sequence[Any]] = {
    "spec/securityContext": (ABSENT, None, {}),
    "spec/securityContext/runAsNonRoot": FLAG,
    "spec/securityContext/runAsUser": USER,
    "spec/securityContext/seccompProfile": PROFILE,
    "spec/securityContext/appArmorProfile": PROFILE,
    "spec/securityContext/seLinuxOptions": SELINUX,
    "spec/securityContext/windowsOptions": WINDOWS,
    "spec/securityContext/sysctls": (
        None,
        [],
        *([{"name": name, "value": "1"}] for name in SYSCTLS),
    ),
    "spec/hostPID": FLAG,
    "spec/hostIPC": FLAG,
    "spec/hostNetwork": FLAG,
    "spec/volumes": (None, [], *([{"name": "a", **volume}] for volume in VOLUMES)),
    "metadata/annotations": (
        None,
        {},
        *(
            {f"container.apparmor.security.beta.kubernetes.io/{container}": profile}
            for container in ("container-0", "container-1")
            for profile in ("", "runtime/default", "localhost/a", "unconfined")
        ),
    ),
}
# What containers inherit from their Pod, said in both places.
INHERITED = {"runAsNonRoot": FLAG, "runAsUser": USER, "seccompProfile": PROFILE}


def matrix() -> Iterator[tuple[str, dict[str, Any]]]:
    """A name that tells the difference, and the Pod. Some are refused by the API's validation."""
    for os, host_users in ((ABSENT, ABSENT), (ABSENT, False), ("windows", ABSENT)):
        for name, places in _differences():
            pod = _allowed(os, host_users)
            for place, value in places:
                _put(pod, place, value)
            yield f"{name} {_name('os', os)} {_name('hostUsers', host_users)}", pod


def combinations(count: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """As `matrix`, with two to five differences in each Pod."""
    chance = random.Random(seed)  # noqa: S311 - the same Pods every time
    differences = list(_differences())
    for number in range(count):
        pod = _allowed(chance.choice((*[ABSENT] * 4, "windows")), chance.choice((ABSENT, *FLAG)))
        chosen = chance.sample(differences, chance.randint(2, 5))
        for _, places in chosen:
            for place, value in places:
                _put(pod, place, value)
        yield f"{seed}/{number}: {' '.join(name for name, _ in chosen)}", pod


def hosts() -> Iterator[tuple[str, dict[str, Any]]]:
    """Allowed Pods to which `debuggers` are added; on the second nothing is inherited."""
    for os, host_users in ((ABSENT, ABSENT), (ABSENT, False), ("windows", ABSENT)):
        pod = _allowed(os, host_users)
        names = f"{_name('os', os)} {_name('hostUsers', host_users)}"
        yield names, pod
        own = copy.deepcopy(pod)
        inherited = own["spec"].pop("securityContext")
        for container in own["spec"]["containers"] + own["spec"]["initContainers"]:
            container["securityContext"] |= copy.deepcopy(inherited)
        yield f"{names} inheriting nothing", own


def debuggers(host: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ephemeral containers, with the differences of other containers."""
    for place, values in OF_CONTAINERS.items():
        if place == "ports":
            continue  # which an ephemeral container has none of
        for value in values:
            pod = copy.deepcopy(host)
            _put(pod, f"spec/containers/0/{place}", value)
            yield _name(place, value), pod["spec"]["containers"][0] | {"name": "debugger"}


def _differences() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    for place, values in OF_PODS.items():
        yield from _each(place, values)
    for container in CONTAINERS:
        security = f"spec/{container}/securityContext"
        for place, values in OF_CONTAINERS.items():
            yield from _each(f"spec/{container}/{place}", values)
        for field, value in BESIDE_ESCALATION:
            places = [(f"{security}/{field}", value), (f"{security}/{ESCALATION}", ABSENT)]
            yield _names(places), places
        for handler in (*PROBES, *HOOKS) if container != PLAIN_INIT else ():
            for action in ("httpGet", "tcpSocket"):
                for host in HOST:
                    target = {"port": 80} | ({} if host is ABSENT else {"host": host})
                    yield from _each(f"spec/{container}/{handler}", [{action: target}])
        for field, values in INHERITED.items():
            for above in values:
                for own in values:
                    places = [
                        (f"spec/securityContext/{field}", above),
                        (f"{security}/{field}", own),
                    ]
                    yield _names(places), places
    network = ("spec/hostNetwork", True)
    for container in CONTAINERS:
        for ports in OF_CONTAINERS["ports"]:
            places = [network, (f"spec/{container}/ports", ports)]
            yield _names(places), places
    # HostProcess is for all containers or none, and needs the node's network.
    of_pod = [network, ("spec/securityContext/windowsOptions", HOST_PROCESS)]
    of_each = [(f"spec/{c}/securityContext/windowsOptions", HOST_PROCESS) for c in CONTAINERS]
    yield _names(of_pod), of_pod
    yield _names(of_each), [network, *of_each]


def _each(place: str, values: Sequence[Any]) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    for value in values:
        yield _name(place, value), [(place, value)]


def _names(places: Sequence[tuple[str, Any]]) -> str:
    return " ".join(_name(*place) for place in places)


def _name(place: str, value: Any) -> str:
    return f"{place}={'absent' if value is ABSENT else value}"


def _allowed(os: Any, host_users: Any) -> dict[str, Any]:
    linux = os is ABSENT
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    containers = [
        {
            "name": f"container-{index}",
            "image": "app:1",
            "securityContext": copy.deepcopy(security) if linux else {},
        }
        for index in range(3)
    ]
    containers[2]["restartPolicy"] = "Always"
    spec: dict[str, Any] = {
        "containers": containers[:1],
        "initContainers": containers[1:],
        "securityContext": {"runAsNonRoot": True},
    }
    if linux:
        spec["securityContext"]["seccompProfile"] = {"type": "RuntimeDefault"}
    else:
        spec["os"] = {"name": os}
    if host_users is not ABSENT:
        spec["hostUsers"] = host_users
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "matrix"}, "spec": spec}


def _put(pod: dict[str, Any], place: str, value: Any) -> None:
    *parents, last = place.split("/")
    node: Any = pod
    for token in parents:
        if isinstance(node, list):
            node = node[int(token)]
        else:
            node[token] = {} if node.get(token) is None else node[token]
            node = node[token]
    if value is ABSENT:
        node.pop(last, None)
    else:
        node[last] = copy.deepcopy(value)
