"""Pods mount no path of their node.

## What it does
Refuses volumes of type `hostPath`.

## Why is this bad?
Whoever reads the node's files reads the credentials of its kubelet and of every Pod on it; whoever
writes them owns the node.

## Example
```yaml
containers:
  - name: app
volumes:
  - name: data
    hostPath:
      path: /var/lib/app
```

## Use instead
```yaml
containers:
  - name: app
volumes:
  - name: data
    persistentVolumeClaim:
      claimName: app
```

## References
- Pod Security Standards, baseline, *HostPath Volumes*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if not pod.pod_level:
        return
    for index, volume in enumerate(pod.spec.volumes or ()):
        if volume.get("hostPath") is not None:
            yield Finding(
                path=f"/spec/volumes/{index}/hostPath",
                detail=f"volume {shown(str(volume.get('name')))} is a path of the node",
                remedy="use a persistentVolumeClaim, or an emptyDir for what may be lost",
            )


def cel(_: NoParameters, _version: Version) -> Cel:
    return Cel(
        detail="a volume is a path of the node: use a persistentVolumeClaim or an emptyDir",
        pod="!variables.spec.?volumes.orValue([]).exists(v, has(v.hostPath))",
    )


RULE = Rule(name="no-host-path", level="baseline", doc=__doc__, check=check, cel=cel)
