"""Containers run with a read-only root filesystem.

## What it does
Sets `securityContext.readOnlyRootFilesystem: true` on every container, init container, native
sidecar and ephemeral container that does not say. Windows Pods are left alone: the API server
refuses the field there.

## Why is this bad?
A process that can write to its image's files can replace its own programs, leave tools behind for
the next step of an attack, and fill the node's disk.

## Example
```yaml
containers:
  - name: app
    securityContext:
      readOnlyRootFilesystem: false
```

## Use instead
```yaml
containers:
  - name: app
    securityContext:
      readOnlyRootFilesystem: true
    volumeMounts:
      - {name: cache, mountPath: /var/cache/app}
```
`/tmp` comes by itself (see `writable-tmp`); other paths to write go into a volume, or into the
Pod's `batten.dev/writable-paths` annotation.

## References
- https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version
from batten_webhooks.verdict import Change, Finding
from batten_webhooks.workload import Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if pod.windows:
        return
    for site in pod.sites:
        read_only = site.security.readOnlyRootFilesystem
        if read_only:
            continue
        path = site.pointer + "/securityContext/readOnlyRootFilesystem"
        if read_only is None:
            yield Finding(
                path=path,
                container=site.name,
                detail="the root filesystem is writable",
                remedy="set it to true",
                changes=(Change(path, True),),
            )
        else:
            yield Finding(
                path=path,
                container=site.name,
                detail="readOnlyRootFilesystem is set to false",
                remedy="set it to true and mount a volume where the program writes, or name the "
                "paths in the Pod's annotation batten.dev/writable-paths",
            )


def cel(_: NoParameters, _version: Version) -> Cel:
    return Cel(
        detail="set securityContext.readOnlyRootFilesystem to true",
        container="variables.windows || c.?securityContext.?readOnlyRootFilesystem.orValue(false)",
    )


RULE = Rule(
    name="read-only-root-filesystem",
    level="hardened",
    doc=__doc__,
    check=check,
    cel=cel,
    mutates=True,
)
