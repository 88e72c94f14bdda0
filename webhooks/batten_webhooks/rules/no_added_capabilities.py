"""Containers add no capability beyond what container runtimes give by default.

## What it does
Refuses names in `capabilities.add` other than AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FOWNER, FSETID,
KILL, MKNOD, NET_BIND_SERVICE, SETFCAP, SETGID, SETPCAP, SETUID and SYS_CHROOT. The option `allowed`
names further ones. The preset `restricted` asks for more: see `drop-capabilities`.

## Why is this bad?
Capabilities are parts of root's power. Several of them, such as SYS_ADMIN, are as good as all.

## Example
```yaml
containers:
  - name: app
    securityContext:
      capabilities:
        add: [SYS_ADMIN]
```

## Use instead
```yaml
containers:
  - name: app
    securityContext:
      capabilities:
        drop: [ALL]
        add: [NET_BIND_SERVICE]
```

## References
- Pod Security Standards, baseline, *Capabilities*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from batten_webhooks.rules.rule import Cel, Context, Rule, Version, cel_list, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

DEFAULT_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)


_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Capabilities that may be added, as the kernel names them without `CAP_`."""

    allowed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.allowed:
            if not _NAME.fullmatch(name) or name == "ALL" or name.startswith("CAP_"):
                raise ValueError(
                    f"allowed must hold capabilities such as NET_ADMIN, not {shown(name)}"
                )


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding]:
    allowed = DEFAULT_CAPABILITIES.union(parameters.allowed)
    for site in pod.sites:
        capabilities = site.security.capabilities
        if capabilities is None or not capabilities.add:
            continue
        for index, name in enumerate(capabilities.add):
            if name not in allowed:
                yield Finding(
                    path=f"{site.pointer}/securityContext/capabilities/add/{index}",
                    container=site.name,
                    detail=f"adds the capability {shown(name)}",
                    remedy="remove it from the list",
                )


def cel(parameters: Parameters, _version: Version) -> Cel:
    return Cel(
        detail="it adds a capability that runtimes do not give: remove it from capabilities.add",
        container="c.?securityContext.?capabilities.?add.orValue([])"
        f".all(a, a in {cel_list(DEFAULT_CAPABILITIES.union(parameters.allowed))})",
    )


RULE = Rule(
    name="no-added-capabilities",
    level="baseline",
    doc=__doc__,
    check=check,
    cel=cel,
    parameters=Parameters,
)
