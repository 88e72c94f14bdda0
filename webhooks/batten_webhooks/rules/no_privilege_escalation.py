"""Processes must not gain more privileges than their container was given.

## What it does
Sets `securityContext.allowPrivilegeEscalation: false` on every container that does not say. Where
the container is privileged, or adds `CAP_SYS_ADMIN`, the API server refuses that, so there it is a
violation; so is an explicit `true`. Windows Pods are left alone: the API server refuses the field
there.

This is the *Privilege Escalation* control of the Pod Security Standards *restricted*.

## Why is this bad?
A set-uid program such as `su` or `mount` in the image turns a harmless user into root. `false` sets
the kernel's `no_new_privs`, and set-uid bits and file capabilities stop working.

## Example
```yaml
containers:
  - name: app
    securityContext:
      allowPrivilegeEscalation: true
```

## Use instead
```yaml
containers:
  - name: app
    securityContext:
      allowPrivilegeEscalation: false
```

## References
- https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
- https://docs.kernel.org/userspace-api/no_new_privs.html
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version
from batten_webhooks.verdict import Change, Finding
from batten_webhooks.workload import SecurityContext, Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if pod.windows:
        return
    for site in pod.sites:
        allowed = site.security.allowPrivilegeEscalation
        if allowed is False:
            continue
        path = site.pointer + "/securityContext/allowPrivilegeEscalation"
        obstacle = obstacle_to_false(site.security)
        yield Finding(
            path=path,
            container=site.name,
            detail="allowPrivilegeEscalation is set to true"
            if allowed
            else "its processes may gain privileges",
            remedy=f"set it to false and remove {obstacle}: the API server refuses the two together"
            if obstacle
            else "set it to false",
            changes=() if allowed or obstacle else (Change(path, False),),
        )


def obstacle_to_false(security: SecurityContext) -> str:
    """What the API server refuses beside `allowPrivilegeEscalation: false`, "" for nothing."""
    if security.privileged:
        return "privileged: true"
    if security.capabilities is not None and "CAP_SYS_ADMIN" in (security.capabilities.add or ()):
        return "the capability CAP_SYS_ADMIN"
    return ""


def cel(_: NoParameters, _version: Version) -> Cel:
    return Cel(
        detail="set securityContext.allowPrivilegeEscalation to false",
        container="variables.windows"
        " || !c.?securityContext.?allowPrivilegeEscalation.orValue(true)",
    )


RULE = Rule(
    name="no-privilege-escalation",
    level="restricted",
    doc=__doc__,
    check=check,
    cel=cel,
    mutates=True,
)
