"""Containers take no port of their node.

## What it does
Refuses a `hostPort` other than 0, and those of the option `allowed`, in any container's `ports`.
With `hostNetwork: true` every port is a host port: the API server fills it in.

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
from dataclasses import dataclass

from batten_webhooks.rules.rule import Cel, Context, Rule, Version
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload


@dataclass(frozen=True, slots=True)
class Parameters:
    """Ports of the node that may be taken."""

    allowed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for port in self.allowed:
            if not 0 < port < 65536:
                raise ValueError(f"allowed must hold ports from 1 to 65535, not {port}")


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding]:
    shared = pod.spec.hostNetwork
    for site in pod.sites:
        for index, port in enumerate(site.container.ports or ()):
            taken = port.hostPort or (port.containerPort if shared else None)
            if taken and taken not in parameters.allowed:
                yield Finding(
                    path=f"{site.pointer}/ports/{index}/hostPort",
                    container=site.name,
                    detail=f"takes port {taken} of the node",
                    remedy="remove it and hostNetwork, with which every port is the node's"
                    if shared
                    else "remove it; bring traffic to the Pod by a Service",
                )


def cel(parameters: Parameters, _version: Version) -> Cel:
    allowed = list(parameters.allowed)
    return Cel(
        detail="it takes a port of the node: remove hostPort and hostNetwork",
        container=f"c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) in {[0, *allowed]}"
        f" && (!variables.spec.?hostNetwork.orValue(false) || p.containerPort in {allowed}))",
    )


RULE = Rule(
    name="no-host-ports", level="baseline", doc=__doc__, check=check, cel=cel, parameters=Parameters
)
