"""Containers must drop all Linux capabilities.

## What it does
Adds `ALL` to `securityContext.capabilities.drop` of every container that does not drop it; what is
listed there already stays. Added capabilities other than `NET_BIND_SERVICE`, and those of the
option `allowed`, are violations and never removed; `no-added-capabilities` holds for those, with
its own option. Windows Pods are left alone: the API server refuses the field there.

This is the *Capabilities* control of the Pod Security Standards *restricted*.

## Why is this bad?
A capability is a piece of root's power. Runtimes grant about fourteen by default, `NET_RAW`
(forging packets) and `DAC_OVERRIDE` (ignoring file permissions) among them; few programs use any.

## Example
```yaml
containers:
  - name: app
    securityContext:
      capabilities:
        add: [NET_ADMIN]
        drop: [MKNOD]
```

## Use instead
```yaml
containers:
  - name: app
    securityContext:
      capabilities:
        add: [NET_BIND_SERVICE]
        drop: [ALL]
```

## References
- https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
- https://man7.org/linux/man-pages/man7/capabilities.7.html
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.no_added_capabilities import Parameters
from batten_webhooks.rules.rule import Cel, Context, Rule, Version, cel_list, shown
from batten_webhooks.verdict import Change, Finding
from batten_webhooks.workload import Workload

ALL = "ALL"
ALLOWED = "NET_BIND_SERVICE"
CAPABILITIES = "/securityContext/capabilities"


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding]:
    if pod.windows:
        return
    allowed = (ALLOWED, *parameters.allowed)
    for site in pod.sites:
        capabilities = site.security.capabilities
        dropped = capabilities.drop if capabilities is not None else None
        if not dropped or ALL not in dropped:
            drop = site.pointer + CAPABILITIES + "/drop"
            yield Finding(
                path=drop,
                container=site.name,
                detail="not all capabilities are dropped",
                remedy='set it to ["ALL"]',
                changes=(Change(drop + "/-", ALL),),
            )
        if capabilities is not None and capabilities.add:
            forbidden = [name for name in capabilities.add if name not in allowed]
            if forbidden:
                names = ", ".join(shown(name) for name in dict.fromkeys(forbidden))
                yield Finding(
                    path=site.pointer + CAPABILITIES + "/add",
                    container=site.name,
                    detail=f"adds {names}",
                    remedy=f"add no capability but {' and '.join(allowed)}",
                )


def cel(parameters: Parameters, _version: Version) -> Cel:
    allowed = (ALLOWED, *parameters.allowed)
    capabilities = "c.?securityContext.?capabilities"
    return Cel(
        detail=f"set capabilities.drop to [ALL], and add no capability but {' and '.join(allowed)}",
        container=f"variables.windows || ('{ALL}' in {capabilities}.?drop.orValue([])"
        f" && {capabilities}.?add.orValue([]).all(a, a in {cel_list(allowed)}))",
    )


RULE = Rule(
    name="drop-capabilities",
    level="restricted",
    doc=__doc__,
    check=check,
    cel=cel,
    parameters=Parameters,
    mutates=True,
    overrides=("no-added-capabilities",),
)
