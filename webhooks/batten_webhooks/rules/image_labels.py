"""Images say where they come from.

## What it does
Tells of images that lack one of `labels`, by default where their source is and which revision of it
they were built from. It is told only where the image's configuration is known: in a cluster that
looks images up, or with `--look-up-images`.

## Why is this bad?
When something is wrong with an image, somebody has to find the code that it was built from, and who
keeps that.

## Example
```yaml
containers:
  - name: app
    image: registry.example/app:1.4
```

## Use instead
```yaml
# built with: --label org.opencontainers.image.source=… --label org.opencontainers.image.revision=…
containers:
  - name: app
    image: registry.example/app:1.5
```

## References
- https://github.com/opencontainers/image-spec/blob/v1.1.0/annotations.md#pre-defined-annotation-keys
- https://docs.docker.com/reference/dockerfile/#label
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batten_webhooks.rules.rule import AUDIT, Context, Rule, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

PREFIX = "org.opencontainers.image."


@dataclass(frozen=True, slots=True)
class Parameters:
    """Keys that every image has to have."""

    labels: tuple[str, ...] = (f"{PREFIX}source", f"{PREFIX}revision")


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding]:
    if not context.facts.images:
        return
    for site in pod.sites:
        text = site.container.image or ""
        image = context.facts.images.get(text)
        missing = [] if image is None else [k for k in parameters.labels if not image.labels.get(k)]
        if missing:
            yield Finding(
                path=site.pointer + "/image",
                container=site.name,
                detail=f"image {shown(text)} has no label {', '.join(missing)}",
                remedy="set it when the image is built",
            )


RULE = Rule(
    name="image-labels",
    level="advice",
    doc=__doc__,
    check=check,
    actions=AUDIT,
    parameters=Parameters,
    reads_images=True,
)
