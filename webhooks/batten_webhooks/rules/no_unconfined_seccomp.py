"""Containers are not freed from their seccomp profile.

## What it does
Refuses a `seccompProfile.type` other than `RuntimeDefault` and `Localhost`, of the Pod and of any
container, where one is said. The preset `restricted` asks for one everywhere: see
`seccomp-profile`.

## Why is this bad?
Unconfined, a container may make every system call of the kernel, among them those that most escapes
from containers begin with.

## Example
```yaml
securityContext:
  seccompProfile:
    type: Unconfined
containers:
  - name: app
```

## Use instead
```yaml
securityContext:
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: app
```

## References
- Pod Security Standards, baseline, *Seccomp*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version, cel_list, shown
from batten_webhooks.rules.seccomp_profile import ALLOWED
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import SeccompProfile, Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if pod.pod_level and pod.security.seccompProfile is not None:
        yield from _judge(pod.security.seccompProfile, "/spec", "")
    for site in pod.sites:
        if site.security.seccompProfile is not None:
            yield from _judge(site.security.seccompProfile, site.pointer, site.name)


def _judge(profile: SeccompProfile, place: str, container: str) -> Iterator[Finding]:
    said = profile.type
    if said not in ALLOWED:
        yield Finding(
            path=f"{place}/securityContext/seccompProfile/type",
            container=container,
            detail=f"seccompProfile.type is {shown(said)}"
            if said
            else "seccompProfile has no type",
            remedy="set it to RuntimeDefault, or to Localhost with a profile of the node's",
        )


def cel(_: NoParameters, _version: Version) -> Cel:
    fine = "{}.?securityContext.?seccompProfile.?type.orValue('RuntimeDefault') in {}"
    return Cel(
        detail="set seccompProfile.type to RuntimeDefault, or to Localhost",
        pod=fine.format("variables.spec", cel_list(ALLOWED)),
        container=fine.format("c", cel_list(ALLOWED)),
    )


RULE = Rule(name="no-unconfined-seccomp", level="baseline", doc=__doc__, check=check, cel=cel)
