"""Pods keep the SELinux confinement of containers.

## What it does
Refuses a `seLinuxOptions.type` other than container_t, container_init_t, container_kvm_t and
container_engine_t, and any `user` or `role`, of the Pod and of any container.

## Why is this bad?
Another type can take the confinement away, or reach the files of other containers.

## Example
```yaml
securityContext:
  seLinuxOptions:
    type: spc_t
containers:
  - name: app
```

## Use instead
```yaml
securityContext:
  seLinuxOptions:
    type: container_t
containers:
  - name: app
```

## References
- Pod Security Standards, baseline, *SELinux*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version, cel_list, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import SELinuxOptions, Workload

TYPES = frozenset(("container_t", "container_init_t", "container_kvm_t", "container_engine_t"))


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if pod.pod_level and pod.security.seLinuxOptions is not None:
        yield from _judge(pod.security.seLinuxOptions, "/spec", "")
    for site in pod.sites:
        if site.security.seLinuxOptions is not None:
            yield from _judge(site.security.seLinuxOptions, site.pointer, site.name)


def _judge(options: SELinuxOptions, place: str, container: str) -> Iterator[Finding]:
    path = f"{place}/securityContext/seLinuxOptions"
    if options.type and options.type not in TYPES:
        yield Finding(
            path=f"{path}/type",
            container=container,
            detail=f"the SELinux type is {shown(options.type)}",
            remedy=f"remove it, or set it to one of {', '.join(sorted(TYPES))}",
        )
    for field, value in (("user", options.user), ("role", options.role)):
        if value:
            yield Finding(
                path=f"{path}/{field}",
                container=container,
                detail=f"sets an SELinux {field}, {shown(value)}",
                remedy="remove it",
            )


def cel(_: NoParameters, _version: Version) -> Cel:
    def fine(of: str) -> str:
        options = f"{of}.?securityContext.?seLinuxOptions"
        return (
            f"{options}.?type.orValue('') in {cel_list({'', *TYPES})}"
            f" && {options}.?user.orValue('') == '' && {options}.?role.orValue('') == ''"
        )

    return Cel(
        detail=f"seLinuxOptions: no user, no role, and a type of {', '.join(sorted(TYPES))}",
        pod=fine("variables.spec"),
        container=fine("c"),
    )


RULE = Rule(name="safe-selinux-options", level="baseline", doc=__doc__, check=check, cel=cel)
