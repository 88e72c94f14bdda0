"""Paths that an image declares as VOLUME have a volume mounted.

## What it does
Warns of a VOLUME of an image at or above which the container mounts nothing. It is told only where
the image's configuration is known: in a cluster that looks images up, or with `--look-up-images`.

This rule mounts nothing: an emptyDir would hide what the image has there, and does not belong to
the user that the image gave the path to. Where a profile knows the path, `writable-tmp` mounts one.

## Why is this bad?
Data written there is gone with the container. With a read-only root filesystem some runtimes give
the path a directory of its own, others leave it read-only, and the program fails.

## Example
```yaml
containers:
  - name: db
    image: registry.example/db:16
```

## Use instead
```yaml
containers:
  - name: db
    image: registry.example/db:16
    volumeMounts:
      - {name: data, mountPath: /var/lib/db}
```

## References
- https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md#properties
- https://kubernetes.io/docs/concepts/storage/volumes/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import WARN, Context, NoParameters, Rule, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.volumes import covering
from batten_webhooks.workload import Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if not context.facts.images:
        return
    for site in pod.sites:
        image = context.facts.images.get(site.container.image or "")
        if image is None or site.role == "ephemeralContainer":
            continue
        mounted = [mount.mountPath for mount in site.container.volumeMounts or ()]
        for path in image.volumes:
            if covering(mounted, path) is None:
                yield Finding(
                    path=site.pointer + "/volumeMounts",
                    container=site.name,
                    detail=f"nothing is mounted at {shown(path)}, a VOLUME of its image",
                    remedy="mount a volume there",
                )


RULE = Rule(
    name="image-volumes",
    level="advice",
    doc=__doc__,
    check=check,
    actions=WARN,
    reads_images=True,
)
