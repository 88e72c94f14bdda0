"""Containers are not privileged.

## What it does
Refuses `securityContext.privileged: true` on any container.

## Why is this bad?
A privileged container has every capability, every device and no confinement: it is root on the
node.

## Example
```yaml
containers:
  - name: app
    securityContext:
      privileged: true
```

## Use instead
```yaml
containers:
  - name: app
    securityContext:
      privileged: false
```

## References
- Pod Security Standards, baseline, *Privileged Containers*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    for site in pod.sites:
        if site.security.privileged:
            yield Finding(
                path=site.pointer + "/securityContext/privileged",
                container=site.name,
                detail="it is privileged, which is root on the node",
                remedy="remove it; ask for the one device, volume or capability that is needed",
            )


def cel(_: NoParameters, _version: Version) -> Cel:
    return Cel(
        detail="it is privileged: remove privileged",
        container="!c.?securityContext.?privileged.orValue(false)",
    )


RULE = Rule(name="no-privileged", level="baseline", doc=__doc__, check=check, cel=cel)
