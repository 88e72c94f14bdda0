"""Probes and lifecycle hooks go to their own Pod.

## What it does
Refuses a `host` in the `httpGet` and `tcpSocket` of probes and lifecycle hooks. The control belongs
to the standards from v1.34 on.

## Why is this bad?
The kubelet makes the request, from the node: with a host of their choice, the Pod's authors reach
what only nodes can reach.

## Example
```yaml
containers:
  - name: app
    livenessProbe:
      httpGet:
        host: 169.254.169.254
        path: /
        port: 80
```

## Use instead
```yaml
containers:
  - name: app
    livenessProbe:
      httpGet:
        path: /
        port: 80
```

## References
- Pod Security Standards, baseline, *Host Probes / Lifecycle Hooks*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
- KEP-4940: https://github.com/kubernetes/enhancements/issues/4940
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Container, Handler, Workload

SINCE = (1, 34)


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if context.version < SINCE:
        return
    for site in pod.sites:
        for field, handler in _handlers(site.container):
            for action, target in (("httpGet", handler.httpGet), ("tcpSocket", handler.tcpSocket)):
                if target is not None and target.host:
                    yield Finding(
                        path=f"{site.pointer}/{field}/{action}/host",
                        container=site.name,
                        detail=f"the node would be sent to {shown(target.host)}",
                        remedy="remove the host: the request goes to the Pod itself",
                    )


def _handlers(container: Container) -> Iterator[tuple[str, Handler]]:
    if container.livenessProbe is not None:
        yield "livenessProbe", container.livenessProbe
    if container.readinessProbe is not None:
        yield "readinessProbe", container.readinessProbe
    if container.startupProbe is not None:
        yield "startupProbe", container.startupProbe
    lifecycle = container.lifecycle
    if lifecycle is not None:
        if lifecycle.postStart is not None:
            yield "lifecycle/postStart", lifecycle.postStart
        if lifecycle.preStop is not None:
            yield "lifecycle/preStop", lifecycle.preStop


def cel(_: NoParameters, version: Version) -> Cel:
    handlers = ("livenessProbe", "readinessProbe", "startupProbe")
    hooks = ("lifecycle.?postStart", "lifecycle.?preStop")
    unset = [
        f"c.?{handler}.?{action}.?host.orValue('') == ''"
        for handler in handlers + hooks
        for action in ("httpGet", "tcpSocket")
    ]
    return Cel(
        detail="a probe or hook names a host: remove it, the request goes to the Pod itself",
        container=" && ".join(unset) if version >= SINCE else "true",
    )


RULE = Rule(name="no-host-probes", level="baseline", doc=__doc__, check=check, cel=cel)
