"""Containers have the usual masks over /proc.

## What it does
Refuses a `procMount` other than `Default`. From v1.35 of the standards on, a Pod in a user
namespace (`hostUsers: false`) may have one; the preset `restricted` refuses it there too, see
`masked-proc-mount`.

## Why is this bad?
Without the masks a container reads what the kernel tells of the node, and writes some of it.

## Example
```yaml
containers:
  - name: app
    securityContext:
      procMount: Unmasked
```

## Use instead
```yaml
containers:
  - name: app
    securityContext:
      procMount: Default
```

## References
- Pod Security Standards, baseline, */proc Mount Type*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
- KEP-4265: https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/4265-proc-mount
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import (
    USER_NAMESPACES_SINCE,
    Cel,
    Context,
    NoParameters,
    Rule,
    Version,
    cel_unless_user_namespace,
    shown,
)
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

MASKED = "c.?securityContext.?procMount.orValue('Default') == 'Default'"


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if pod.spec.hostUsers is False and context.version >= USER_NAMESPACES_SINCE:
        return
    yield from unmasked(pod)


def unmasked(pod: Workload) -> Iterator[Finding]:
    """A finding for each container whose /proc is not masked as usual."""
    for site in pod.sites:
        mount = site.security.procMount
        if mount is not None and mount != "Default":
            yield Finding(
                path=site.pointer + "/securityContext/procMount",
                container=site.name,
                detail=f"procMount is {shown(mount)}",
                remedy="remove it, or set it to Default",
            )


def cel(_: NoParameters, version: Version) -> Cel:
    exempt = cel_unless_user_namespace(version)
    return Cel(detail="remove procMount", container=exempt + MASKED)


RULE = Rule(name="default-proc-mount", level="baseline", doc=__doc__, check=check, cel=cel)
