"""Pods mount only volumes that need no trust in their authors.

## What it does
Refuses volumes other than configMap, csi, downwardAPI, emptyDir, ephemeral, image,
persistentVolumeClaim, projected and secret. A type that nobody knows is refused, too. The option
`allowed` names further types; `no-host-path` holds even where it names hostPath.

## Why is this bad?
The other types name a server, a device or a path directly, so that a Pod's author reaches storage
that nobody granted. A PersistentVolume is granted by who runs the cluster.

## Example
```yaml
containers:
  - name: app
volumes:
  - name: data
    nfs: {server: nfs.example, path: /}
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
- Pod Security Standards, restricted, *Volume Types*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batten_webhooks.rules.rule import Cel, Context, Rule, Version, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

SAFE = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)


OTHERS = frozenset(
    (
        "awsElasticBlockStore",
        "azureDisk",
        "azureFile",
        "cephfs",
        "cinder",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "gitRepo",
        "glusterfs",
        "hostPath",
        "iscsi",
        "nfs",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "scaleIO",
        "storageos",
        "vsphereVolume",
    )
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Types as fields of a volume, such as `nfs`."""

    allowed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.allowed:
            if name not in OTHERS:
                known = ", ".join(sorted(OTHERS))
                raise ValueError(f"allowed must hold any of {known}, not {shown(name)}")


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding]:
    """A volume without any type is an emptyDir once the API server has filled it in."""
    if not pod.pod_level:
        return
    safe = SAFE.union(parameters.allowed)
    for index, volume in enumerate(pod.spec.volumes or ()):
        types = [key for key, value in volume.items() if key != "name" and value is not None]
        if types and safe.isdisjoint(types):
            yield Finding(
                path=f"/spec/volumes/{index}/{types[0]}",
                detail=f"volume {shown(str(volume.get('name')))} is of type {shown(types[0])}",
                remedy="use a persistentVolumeClaim, or an emptyDir for what may be lost",
            )


def cel(parameters: Parameters, _version: Version) -> Cel:
    known = " || ".join(f"has(v.{name})" for name in sorted(SAFE.union(parameters.allowed)))
    return Cel(
        detail="a volume is of a type that needs trust: use a persistentVolumeClaim or an emptyDir",
        pod=f"dyn(variables.spec.?volumes.orValue([])).all(v, {known})",
    )


RULE = Rule(
    name="safe-volume-types",
    level="restricted",
    doc=__doc__,
    check=check,
    cel=cel,
    parameters=Parameters,
    overrides=("no-host-path",),
)
