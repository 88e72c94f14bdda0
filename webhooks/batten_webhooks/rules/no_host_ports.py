"""Containers take no port of their node.

## What it does
Refuses a `hostPort` other than 0 in any container's `ports`.

## Why is this bad?
Traffic to a host port passes by network policies, and two Pods with the same one cannot run on the
same node.

## Example
```yaml
containers:
  - name: app
    ports:
      - containerPort: 8080
        hostPort: 80
```

## Use instead
```yaml
containers:
  - name: app
    ports:
      - containerPort: 8080
```
A Service, an Ingress or a Gateway brings traffic to the Pod.

## References
- Pod Security Standards, baseline, *Host Ports*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Context, NoParameters, Rule
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    for site in pod.sites:
        for index, port in enumerate(site.container.ports or ()):
            if port.hostPort:
                yield Finding(
                    path=f"{site.pointer}/ports/{index}/hostPort",
                    container=site.name,
                    detail=f"takes port {port.hostPort} of the node",
                    remedy="remove it; bring traffic to the Pod by a Service",
                )


RULE = Rule(name="no-host-ports", level="baseline", doc=__doc__, check=check)
