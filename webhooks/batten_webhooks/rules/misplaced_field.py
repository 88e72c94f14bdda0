"""Security settings stand where Kubernetes reads them.

## What it does
Finds fields of a `securityContext` where the API has no such field, so that they do nothing: those
of containers in the Pod's `securityContext` (`readOnlyRootFilesystem`, `allowPrivilegeEscalation`,
`privileged`, `procMount`, `capabilities`), those of the Pod in a container's (`fsGroup`,
`fsGroupChangePolicy`, `supplementalGroups`, `sysctls`), and any of them directly in the Pod's
`spec` or in a container, beside the `securityContext`.

A field is moved: removed there, and set in its place on every container, or on the Pod, that says
nothing else. Values that would make things less safe (`privileged: true`), and those that only the
author can judge (`runAsUser`, `runAsGroup`, `sysctls`), stay and are violations.

## Why is this bad?
`kubectl` with `--validate=false`, Helm and many clients drop such fields without a word: the Pod
runs unprotected, while its manifest reads as if it were safe.

## Example
```yaml
securityContext:
  readOnlyRootFilesystem: true
containers:
  - name: app
```

## Use instead
```yaml
containers:
  - name: app
    securityContext:
      readOnlyRootFilesystem: true
```

## References
- https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
- https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from batten_webhooks.rules.drop_capabilities import ALLOWED as ALLOWED_CAPABILITY
from batten_webhooks.rules.no_privilege_escalation import obstacle_to_false
from batten_webhooks.rules.rule import Context, NoParameters, Rule
from batten_webhooks.verdict import Change, Finding
from batten_webhooks.workload import (
    NO_POD_SECURITY,
    NO_SECURITY,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    Site,
    Workload,
)

POD_FIELDS = ("fsGroup", "fsGroupChangePolicy", "supplementalGroups", "sysctls")
CONTAINER_FIELDS = (
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "privileged",
    "procMount",
    "capabilities",
)
SHARED_FIELDS = ("runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile")
# The values that are moved: none of them gives a container more than it has without.
SAFE_VALUES: Mapping[str, tuple[str | bool, ...]] = {
    "readOnlyRootFilesystem": (True,),
    "allowPrivilegeEscalation": (False,),
    "privileged": (False,),
    "runAsNonRoot": (True,),
    "procMount": ("Default",),
    "fsGroupChangePolicy": ("Always", "OnRootMismatch"),
}
RUNTIME_DEFAULT = {"type": "RuntimeDefault"}
# Linux has about forty; each is moved to every container.
MOST_CAPABILITIES = 64
ALL_FIELDS = POD_FIELDS + CONTAINER_FIELDS + SHARED_FIELDS

_pod_values = attrgetter(*POD_FIELDS)
_container_values = attrgetter(*CONTAINER_FIELDS)
_all_values = attrgetter(*ALL_FIELDS)
_NO_POD_VALUES = (None,) * len(POD_FIELDS)
_NO_CONTAINER_VALUES = (None,) * len(CONTAINER_FIELDS)
_NO_VALUES = (None,) * len(ALL_FIELDS)


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    claimed: dict[str, Any] = {}
    if pod.pod_level:
        if pod.security is not NO_POD_SECURITY:
            values = _container_values(pod.security)
            if values != _NO_CONTAINER_VALUES:
                place = "/spec/securityContext"
                yield from _move(pod, claimed, place, zip(CONTAINER_FIELDS, values, strict=True))
        values = _all_values(pod.spec)
        if values != _NO_VALUES:
            yield from _move(pod, claimed, "/spec", zip(ALL_FIELDS, values, strict=True))
    for site in pod.sites:
        if site.security is not NO_SECURITY:
            values = _pod_values(site.security)
            if values != _NO_POD_VALUES:
                place = site.pointer + "/securityContext"
                yield from _move(pod, claimed, place, zip(POD_FIELDS, values, strict=True), site)
        values = _all_values(site.container)
        if values != _NO_VALUES:
            yield from _move(pod, claimed, site.pointer, zip(ALL_FIELDS, values, strict=True), site)


def _move(
    pod: Workload,
    claimed: dict[str, Any],
    place: str,
    values: Iterable[tuple[str, Any]],
    site: Site | None = None,
) -> Iterator[Finding]:
    """A finding for each value of a field at `place`, which is `site`'s or else the Pod's.

    `claimed` are the values that were moved before, by the path of their new place.
    """
    for field, value in values:
        if value is None:
            continue
        path = f"{place}/{field}"
        changes = _changes(pod, claimed, field, value, site)
        home = _home(field, site)
        yield Finding(
            path=path,
            container=site.name if site else "",
            detail=f"{field} does nothing here",
            remedy=f"remove it; if it is meant, it belongs in {home}"
            if changes is None
            else f"move it to {home}",
            changes=() if changes is None else (Change(path, op="remove"), *changes),
        )


def _home(field: str, site: Site | None) -> str:
    if _is_pods(field, site):
        return "the Pod's securityContext"
    return "the container's securityContext" if site else "the securityContext of each container"


def _is_pods(field: str, site: Site | None) -> bool:
    return field in POD_FIELDS or (site is None and field in SHARED_FIELDS)


def _changes(
    pod: Workload, claimed: dict[str, Any], field: str, value: Any, site: Site | None
) -> list[Change] | None:
    """What sets the field where it belongs, [] where it is set already; None to leave it alone."""
    leaves = None if pod.windows else _leaves(field, value)
    if leaves is None:
        return None
    targets: list[tuple[str, SecurityContext | PodSecurityContext]]
    if _is_pods(field, site):
        if not pod.pod_level:
            return None
        targets = [("/spec", pod.security)]
    else:
        targets = [(site.pointer, site.security) for site in ([site] if site else pod.sites)]
    several = site is None and not _is_pods(field, site)
    changes = []
    for pointer, security in targets:
        said = _said(pod, security, field)
        if said is not None and said != value and not several:
            return None
        if said is None and not (value is False and _cannot_be_false(field, security)):
            changes += [Change(f"{pointer}/securityContext/{leaf}", v) for leaf, v in leaves]
    scalars = {change.path: change.value for change in changes if not change.path.endswith("/-")}
    if any(claimed.get(path, wanted) != wanted for path, wanted in scalars.items()):
        return None
    claimed.update(scalars)
    return changes


def _said(pod: Workload, security: SecurityContext | PodSecurityContext, field: str) -> Any:
    """What holds at a place: its own value, or the one that it inherits from the Pod."""
    said = getattr(security, field)
    if said is None and field in SHARED_FIELDS:
        said = getattr(pod.security, field)
    return {"type": said.type} if isinstance(said, SeccompProfile) else said


def _cannot_be_false(field: str, security: SecurityContext | PodSecurityContext) -> bool:
    return (
        field == "allowPrivilegeEscalation"
        and isinstance(security, SecurityContext)
        and bool(obstacle_to_false(security))
    )


def _leaves(field: str, value: Any) -> list[tuple[str, Any]] | None:
    """What to set instead, by pointers within a securityContext; None for what is not moved."""
    if field == "capabilities":
        return _capabilities(value)
    if field == "seccompProfile":
        return [("seccompProfile/type", "RuntimeDefault")] if value == RUNTIME_DEFAULT else None
    if field in ("fsGroup", "supplementalGroups"):
        groups = value if isinstance(value, list) else [value]
        return [(field, value)] if all(type(g) is int and g > 0 for g in groups) else None
    safe = SAFE_VALUES.get(field, ())
    return [(field, value)] if any(type(value) is type(v) and value == v for v in safe) else None


def _capabilities(value: Any) -> list[tuple[str, Any]] | None:
    """Added to their lists one by one, so that they stand beside what other rules add there."""
    if not isinstance(value, dict) or not value.keys() <= {"add", "drop"}:
        return None
    leaves = []
    for key, names in value.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return None
        if key == "add" and any(name != ALLOWED_CAPABILITY for name in names):
            return None
        if len(names) > MOST_CAPABILITIES:
            return None
        leaves += [(f"capabilities/{key}/-", name) for name in names]
    return leaves


RULE = Rule(
    name="misplaced-field",
    level="hardened",
    doc=__doc__,
    check=check,
    mutates=True,
)
