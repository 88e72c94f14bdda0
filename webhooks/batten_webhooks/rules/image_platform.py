"""Images are built for the nodes that there are.

## What it does
Warns of images none of whose platforms is of an architecture that nodes have: the chart's value
`images.architectures`. Where a Pod selects its nodes by `kubernetes.io/arch`, that alone counts; of
one that is not among these nothing is known. It is told only where the image is known, in a cluster
that looks images up.

## Why is this bad?
The container ends at once with "exec format error", on every node.

## Example
```yaml
containers:
  - name: app
    image: registry.example/app:1.4-s390x
```

## Use instead
```yaml
containers:
  - name: app
    image: registry.example/app:1.4
```

## References
- https://github.com/opencontainers/image-spec/blob/v1.1.0/image-index.md
- https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-arch
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import WARN, Context, NoParameters, Rule, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

ARCHITECTURE = "kubernetes.io/arch"


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if not context.facts.images:
        return
    wanted = context.facts.architectures
    selected = (pod.spec.nodeSelector or {}).get(ARCHITECTURE)
    if selected:
        wanted &= {selected}
    for site in pod.sites:
        text = site.container.image or ""
        image = context.facts.images.get(text)
        if image is None or not wanted or not image.architectures.isdisjoint(wanted):
            continue
        built, needed = ", ".join(sorted(image.architectures)), " or ".join(sorted(wanted))
        yield Finding(
            path=site.pointer + "/image",
            container=site.name,
            detail=f"image {shown(text)} is for {shown(built)}, and nodes are {needed}",
            remedy="build it for the architectures of the nodes",
        )


RULE = Rule(
    name="image-platform",
    level="advice",
    doc=__doc__,
    check=check,
    actions=WARN,
    reads_images=True,
)
