"""Containers say what they need: requests for cpu and memory, and a limit on memory.

## What it does
Advises `resources.requests` for cpu and memory and `resources.limits` for memory on every app
container, init container and sidecar. What the Pod's own `spec.resources` says counts for all of
them, and a limit is also a request.

## Why is this bad?
Without requests the scheduler puts too many Pods on a node; without a memory limit one of them
takes the memory of all. A limit on cpu is not asked for: it slows a container down while the node
idles.

## Example
```yaml
containers:
  - name: app
```

## Use instead
```yaml
containers:
  - name: app
    resources:
      requests: {cpu: 100m, memory: 64Mi}
      limits: {memory: 64Mi}
```

## References
- https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
- KEP-2837 (resources of the Pod):
  https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/2837-pod-level-resource-spec
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import WARN, Context, NoParameters, Rule
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Resources, Workload

ASKED = (("requests", "cpu"), ("requests", "memory"), ("limits", "memory"))


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if not pod.pod_level:
        return
    missing = [what for what in ASKED if not _says(pod.spec.resources, *what)]
    if not missing:
        return
    for site in pod.sites:
        if site.role == "ephemeralContainer":
            continue
        own = site.container.resources
        names = [f"{kind}.{name}" for kind, name in missing if not _says(own, kind, name)]
        if names:
            yield Finding(
                path=site.pointer + "/resources",
                container=site.name,
                detail=f"sets no {', '.join(names)}",
                remedy="set what it needs in ordinary use",
            )


def _says(resources: Resources | None, kind: str, name: str) -> bool:
    if resources is None:
        return False
    limits = resources.limits or {}
    requests = limits if kind == "limits" else {**limits, **(resources.requests or {})}
    return requests.get(name) is not None


RULE = Rule(name="resources", level="advice", doc=__doc__, check=check, actions=WARN)
