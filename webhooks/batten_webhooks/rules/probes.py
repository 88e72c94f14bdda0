"""Containers that serve say when they are ready and whether they are alive.

## What it does
Advises a `readinessProbe` and a `livenessProbe` on the app containers of Pods that run for ever
(`restartPolicy: Always`) and that name a port. Jobs are left alone.

## Why is this bad?
Without a readiness probe a Pod gets requests before it can answer them, at every rollout. Without a
liveness probe one that hangs stays as it is.

## Example
```yaml
containers:
  - name: app
    ports:
      - containerPort: 8080
```

## Use instead
```yaml
containers:
  - name: app
    ports:
      - containerPort: 8080
    readinessProbe:
      httpGet: {path: /ready, port: 8080}
    livenessProbe:
      httpGet: {path: /live, port: 8080}
```

## References
- https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from batten_webhooks.rules.rule import WARN, Cel, Context, NoParameters, Rule, Version
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Site, Workload

# Longer than that, it is no suggestion.
LONGEST_COMMAND = 200


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if not pod.pod_level or pod.spec.restartPolicy not in (None, "", "Always"):
        return
    for site in pod.sites:
        container = site.container
        if site.role != "container" or not container.ports:
            continue
        if container.readinessProbe is None:
            yield Finding(
                path=site.pointer + "/readinessProbe",
                container=site.name,
                detail="serves a port, but does not say when it is ready",
                remedy="add a readinessProbe" + _suggestion(site, context),
            )
        if container.livenessProbe is None:
            yield Finding(
                path=site.pointer + "/livenessProbe",
                container=site.name,
                detail="serves a port, but does not say whether it is alive",
                remedy="add a livenessProbe that fails only where a restart would help",
            )


def _suggestion(site: Site, context: Context) -> str:
    """Kubernetes does not look at an image's HEALTHCHECK."""
    image = context.facts.images.get(site.container.image or "")
    if image is None or not image.healthcheck:
        return ""
    long = sum(map(len, image.healthcheck)) > LONGEST_COMMAND
    command = "" if long else json.dumps(image.healthcheck, ensure_ascii=True)
    if long or len(command) > LONGEST_COMMAND:
        return ", as its image's HEALTHCHECK does"
    return f", such as exec: {{command: {command}}}, its image's HEALTHCHECK"


def cel(_: NoParameters, _version: Version) -> Cel:
    return Cel(
        detail="add a readinessProbe, and a livenessProbe that fails only where a restart helps",
        pod="variables.spec.?restartPolicy.orValue('Always') != 'Always'"
        " || variables.spec.containers.all(c, size(c.?ports.orValue([])) == 0"
        " || (has(c.readinessProbe) && has(c.livenessProbe)))",
    )


RULE = Rule(
    name="probes",
    level="advice",
    doc=__doc__,
    check=check,
    cel=cel,
    actions=WARN,
    reads_images=True,
)
