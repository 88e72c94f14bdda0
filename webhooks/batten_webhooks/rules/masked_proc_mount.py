"""Containers have the usual masks over /proc, in user namespaces too.

## What it does
Refuses a `procMount` other than `Default`, as `default-proc-mount` does, whatever `hostUsers` says.

## Why is this bad?
Without the masks a container reads what the kernel tells of the node.

## Example
```yaml
hostUsers: false
containers:
  - name: app
    securityContext:
      procMount: Unmasked
```

## Use instead
```yaml
hostUsers: false
containers:
  - name: app
```

## References
- Pod Security Standards, restricted, */proc Mount Type*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.default_proc_mount import MASKED, unmasked
from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    return unmasked(pod)


def cel(_: NoParameters, _version: Version) -> Cel:
    return Cel(detail="remove procMount", container=MASKED)


RULE = Rule(
    name="masked-proc-mount",
    level="restricted",
    doc=__doc__,
    check=check,
    cel=cel,
    overrides=("default-proc-mount",),
)
