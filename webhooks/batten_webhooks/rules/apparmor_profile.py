"""Pods keep an AppArmor profile.

## What it does
Refuses an `appArmorProfile.type` other than `RuntimeDefault` and `Localhost`, of the Pod and of any
container, and annotations `container.apparmor.security.beta.kubernetes.io/*` with a value other
than `runtime/default` and `localhost/*`.

## Why is this bad?
Unconfined, a container may do what the runtime's profile keeps from it on every node with AppArmor,
such as mounting filesystems and writing to /proc and /sys.

## Example
```yaml
securityContext:
  appArmorProfile:
    type: Unconfined
containers:
  - name: app
```

## Use instead
```yaml
securityContext:
  appArmorProfile:
    type: RuntimeDefault
containers:
  - name: app
```

## References
- Pod Security Standards, baseline, *AppArmor*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version, cel_list, shown
from batten_webhooks.verdict import Finding, pointer_token
from batten_webhooks.workload import AppArmorProfile, Workload

ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
TYPES = ("RuntimeDefault", "Localhost")


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if pod.pod_level:
        if _is_bad(pod.security.appArmorProfile):
            yield _finding(pod.security.appArmorProfile, "/spec", "")
        yield from _annotations(pod)
    for site in pod.sites:
        if _is_bad(site.security.appArmorProfile):
            yield _finding(site.security.appArmorProfile, site.pointer, site.name)


def _is_bad(profile: AppArmorProfile | None) -> bool:
    return profile is not None and profile.type not in TYPES


def _finding(profile: AppArmorProfile | None, place: str, container: str) -> Finding:
    said = profile.type if profile is not None else None
    return Finding(
        path=f"{place}/securityContext/appArmorProfile/type",
        container=container,
        detail=f"appArmorProfile.type is {shown(said)}" if said else "appArmorProfile has no type",
        remedy="remove it, or set it to RuntimeDefault, or to Localhost with a profile of the "
        "node's",
    )


def _annotations(pod: Workload) -> Iterator[Finding]:
    for key, value in pod.annotations.items():
        if not value or not key.startswith(ANNOTATION):
            continue
        if value != "runtime/default" and not value.startswith("localhost/"):
            yield Finding(
                path=f"/metadata/annotations/{pointer_token(key)}",
                container=key.removeprefix(ANNOTATION),
                detail=f"its AppArmor annotation says {shown(value)}",
                remedy="remove it, or set it to runtime/default or localhost/PROFILE",
            )


def cel(_: NoParameters, _version: Version) -> Cel:
    fine = "{}.?securityContext.?appArmorProfile.?type.orValue('RuntimeDefault') in {}"
    annotation = "object.metadata.annotations[k]"
    return Cel(
        detail="leave AppArmor's profile out, or use RuntimeDefault or Localhost",
        pod=f"{fine.format('variables.spec', cel_list(TYPES))}"
        f" && object.metadata.?annotations.orValue({{}}).all(k, !k.startsWith('{ANNOTATION}')"
        f" || {annotation} in ['', 'runtime/default'] || {annotation}.startsWith('localhost/'))",
        container=fine.format("c", cel_list(TYPES)),
    )


RULE = Rule(name="apparmor-profile", level="baseline", doc=__doc__, check=check, cel=cel)
