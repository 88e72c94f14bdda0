"""Images are small.

## What it does
Tells of images of which a node pulls more than `maxMegabytes` (of a million bytes, compressed, of
the largest platform). It is told only where the image is known: in a cluster that looks images up,
or with `--look-up-images`.

## Why is this bad?
What is not needed is still pulled, scanned and patched: it delays every Pod that comes to a new
node, and a shell or a compiler in it serves whoever gets in.

## Example
```yaml
containers:
  - name: app
    image: registry.example/app:1.4-full
```

## Use instead
```yaml
containers:
  - name: app
    image: registry.example/app:1.4-slim
```

## References
- https://docs.docker.com/build/building/best-practices/
- https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batten_webhooks.rules.rule import AUDIT, Context, Rule, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a node may pull of one image, in millions of bytes."""

    max_megabytes: int = 200

    def __post_init__(self) -> None:
        if self.max_megabytes <= 0:
            raise ValueError("max_megabytes must be more than 0")


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding]:
    if not context.facts.images:
        return
    for site in pod.sites:
        text = site.container.image or ""
        image = context.facts.images.get(text)
        if image is not None and image.size > parameters.max_megabytes * MEGABYTE:
            size = image.size / MEGABYTE
            yield Finding(
                path=site.pointer + "/image",
                container=site.name,
                detail=f"image {shown(text)} has {size:.0f} MB, more than"
                f" {parameters.max_megabytes}",
                remedy="build it in stages, from a slim or distroless base",
            )


RULE = Rule(
    name="image-size",
    level="advice",
    doc=__doc__,
    check=check,
    actions=AUDIT,
    parameters=Parameters,
    reads_images=True,
)
