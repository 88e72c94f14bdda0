"""Pods share no namespace of their node.

## What it does
Refuses `hostNetwork: true`, `hostPID: true` and `hostIPC: true`.

## Why is this bad?
In the node's namespaces a Pod sees and reaches what belongs to the node and to other Pods: its
network interfaces and loopback services, its processes and their environment, its shared memory.

## Example
```yaml
hostPID: true
containers:
  - name: app
```

## Use instead
```yaml
containers:
  - name: app
```

## References
- Pod Security Standards, baseline, *Host Namespaces*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

WHOSE = {"hostNetwork": "network", "hostPID": "process ids", "hostIPC": "shared memory"}


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    spec = pod.spec
    if not pod.pod_level or not (spec.hostNetwork or spec.hostPID or spec.hostIPC):
        return
    for field, what in WHOSE.items():
        if getattr(spec, field):
            yield Finding(
                path=f"/spec/{field}",
                detail=f"{field} shares the node's {what}",
                remedy="remove it",
            )


def cel(_: NoParameters, _version: Version) -> Cel:
    shared = " || ".join(f"variables.spec.?{field}.orValue(false)" for field in WHOSE)
    return Cel(detail=f"remove {', '.join(WHOSE)}", pod=f"!({shared})")


RULE = Rule(name="no-host-namespaces", level="baseline", doc=__doc__, check=check, cel=cel)
