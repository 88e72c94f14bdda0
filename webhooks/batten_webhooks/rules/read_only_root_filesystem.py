"""Containers run with a read-only root filesystem.

## What it does
Sets `securityContext.readOnlyRootFilesystem: true` on every container, init container, native
sidecar and ephemeral container that does not say. Windows Pods are left alone: the API server
refuses the field there.

Who says `false` is told where the image itself says that it writes: its VOLUMEs and its WORKDIR,
where images are looked up.

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

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version, shown
from batten_webhooks.verdict import Change, Finding
from batten_webhooks.workload import Site, Workload

MOST_TOLD = 5


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
                remedy="set it to true and mount a volume where the program writes"
                f"{_likely(site, context)}, or name the paths in the Pod's annotation"
                " batten.dev/writable-paths",
            )


def _likely(site: Site, context: Context) -> str:
    """Where it writes, as far as its image or a profile of that says."""
    image = context.facts.images.get(site.container.image or "")
    if image is None:
        return ""
    if image.profile is not None:
        paths = image.profile.paths
    else:
        paths = tuple(path for path in (*image.volumes, image.working_dir) if path not in {"", "/"})
    told = ", ".join(map(shown, dict.fromkeys(paths[:MOST_TOLD])))
    return f" (its image points to {told})" if told else ""


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
    reads_images=True,
)
