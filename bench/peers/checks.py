"""What a Pod is once each has hardened it: speed counts only where the work is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batten_e2e import Kubectl

from bench.peers.pods import Object, container, pod

YES = "yes"


@dataclass(frozen=True)
class Case:
    """`judge` is given the Pod as it would be stored, or nothing and why it was refused; it says
    `yes`, or what is wrong."""

    title: str
    pod: Object
    judge: Callable[[Object | None, str], str]


def outcomes(kubectl: Kubectl, namespace: str) -> dict[str, str]:
    """By the title of each case."""
    return {case.title: case.judge(*_created(kubectl, namespace, case.pod)) for case in CASES}


def hardens(kubectl: Kubectl, namespace: str) -> str:
    """`yes`, or what is wrong with an ordinary Pod."""
    return CASES[0].judge(*_created(kubectl, namespace, CASES[0].pod))


def _created(kubectl: Kubectl, namespace: str, value: Object) -> tuple[Object | None, str]:
    command = ("create", "--dry-run=server", "-o", "json", "-n", namespace, "-f", "-")
    done = kubectl(*command, stdin=json.dumps(value))
    return (None, done.stderr) if done.code else (json.loads(done.stdout), "")


# --- what is said of a Pod ----------------------------------------------------------------------


def _unhardened(value: Object) -> list[str]:
    spec = value["spec"]
    own = spec.get("securityContext") or {}
    lacking = [] if own.get("runAsNonRoot") is True else ["runAsNonRoot"]
    if own.get("seccompProfile") != {"type": "RuntimeDefault"}:
        lacking.append("seccompProfile")
    if spec["terminationGracePeriodSeconds"] < 30:
        lacking.append("terminationGracePeriodSeconds")
    empty = {each["name"] for each in spec.get("volumes", ()) if "emptyDir" in each}
    for each in [*spec["containers"], *spec.get("initContainers", ())]:
        said = each.get("securityContext") or {}
        wanted = {
            "readOnlyRootFilesystem": said.get("readOnlyRootFilesystem") is True,
            "allowPrivilegeEscalation": said.get("allowPrivilegeEscalation") is False,
            "capabilities": "ALL" in (said.get("capabilities") or {}).get("drop", ()),
            "/tmp": _mounted(each, "/tmp") in empty,  # noqa: S108
        }
        lacking += [f"{each['name']}: {name}" for name, there in wanted.items() if not there]
    return lacking


def _mounted(each: Object, path: str) -> str:
    mounts = each.get("volumeMounts", ())
    return next((str(at["name"]) for at in mounts if at["mountPath"] == path), "")


def _hardened(value: Object | None, why: str) -> str:
    if value is None:
        return _refused_because(why)
    return f"without {', '.join(lacking)}" if (lacking := _unhardened(value)) else YES


def _grace_kept(value: Object | None, why: str) -> str:
    if value is None:
        return _refused_because(why)
    grace = value["spec"]["terminationGracePeriodSeconds"]
    return YES if grace == 120 else f"it becomes {grace}"


def _grace_raised(value: Object | None, why: str) -> str:
    if value is None:
        return _refused_because(why)
    grace = value["spec"]["terminationGracePeriodSeconds"]
    hook = value["spec"]["containers"][0].get("lifecycle")
    return YES if grace > 30 or hook else "nothing is done"


def _own_mount_kept(value: Object | None, why: str) -> str:
    """Refused with a reason is good too: nothing can be written there."""
    if value is None:
        return YES if "/tmp" in why and "mount" in why else _refused_because(why)  # noqa: S108
    name = _mounted(value["spec"]["containers"][0], "/tmp")  # noqa: S108
    return YES if name == "mine" else f"{name} is mounted there instead"


def _added_kept(value: Object | None, why: str) -> str:
    if value is None:
        return _refused_because(why)
    found = value["spec"]["containers"][0]["securityContext"]["capabilities"]
    kept = found.get("add") == ["NET_BIND_SERVICE"] and "ALL" in found.get("drop", ())
    return YES if kept else f"it becomes {json.dumps(found)}"


def _refused(value: Object | None, why: str) -> str:
    if value is not None:
        return "overwritten" if not _unhardened(value) else "let in as it is"
    return YES if "denied" in why else _refused_because(why)


def _left_alone(value: Object | None, why: str) -> str:
    return YES if value is not None else _refused_because(why)


def _refused_because(why: str) -> str:
    return "the Pod is made invalid" if "is invalid" in why else "the Pod is refused"


# --- the Pods -----------------------------------------------------------------------------------


def _with(**fields: Any) -> Object:
    return pod([container(**fields)])


def _said(**fields: Any) -> Object:
    return _with(securityContext=fields)


_TMP = {"name": "mine", "mountPath": "/tmp"}  # noqa: S108
_MINE = {"name": "mine", "configMap": {"name": "mine"}}
CASES = (
    Case("A Pod that says nothing comes out hardened", pod([container()]), _hardened),
    Case(
        "So do init containers and sidecars",
        pod(
            [container()],
            initContainers=[container("migrate"), container("proxy", restartPolicy="Always")],
        ),
        _hardened,
    ),
    Case("It gets more time to end", pod([container()]), _grace_raised),
    Case(
        "A grace period of 120 s stays",
        pod([container()], terminationGracePeriodSeconds=120),
        _grace_kept,
    ),
    Case(
        "A ConfigMap of the user's at /tmp stays, or is refused",
        pod([container(volumeMounts=[_TMP])], volumes=[_MINE]),
        _own_mount_kept,
    ),
    Case(
        "A volume of the user's that is named tmp does no harm",
        pod([container()], volumes=[{"name": "tmp", "configMap": {"name": "mine"}}]),
        _hardened,
    ),
    Case(
        "A capability that may be added stays beside drop ALL",
        _said(capabilities={"add": ["NET_BIND_SERVICE"]}),
        _added_kept,
    ),
    Case(
        "readOnlyRootFilesystem: false is refused, not overwritten",
        _said(readOnlyRootFilesystem=False),
        _refused,
    ),
    Case(
        "allowPrivilegeEscalation: true is refused, not overwritten",
        _said(allowPrivilegeEscalation=True),
        _refused,
    ),
    Case(
        "runAsNonRoot: false is refused, not overwritten",
        pod([container()], securityContext={"runAsNonRoot": False}),
        _refused,
    ),
    Case("A Pod of Windows is let in", pod([container()], os={"name": "windows"}), _left_alone),
)
