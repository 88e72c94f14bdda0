"""Pods set only sysctls that stay within the Pod.

## What it does
Refuses names in the Pod's `securityContext.sysctls` that Kubernetes does not list as safe, nor the
option `allowed`: names, or beginnings of names with a `*` behind them, as the kubelet's own
`--allowed-unsafe-sysctls` takes them.

## Why is this bad?
Other sysctls change the kernel for every Pod on the node, or switch its protections off.

## Example
```yaml
securityContext:
  sysctls:
    - {name: kernel.msgmax, value: "65536"}
containers:
  - name: app
```

## Use instead
```yaml
securityContext:
  sysctls:
    - {name: net.ipv4.ip_local_port_range, value: "1024 65535"}
containers:
  - name: app
```

## References
- Pod Security Standards, baseline, *Sysctls*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
- https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from batten_webhooks.rules.rule import Cel, Context, Rule, Version, cel_list, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

SAFE = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    )
)
SAFE_SINCE_1_37 = SAFE | {"net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_slow_start_after_idle"}

# As the API server takes a sysctl's name, with the * of a beginning.
_NAME = re.compile(r"[a-z0-9][-_a-z0-9]*([./][a-z0-9][-_a-z0-9]*)*([./]?\*)?")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Names such as `net.core.somaxconn` or `net.*`."""

    allowed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.allowed:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    "allowed must hold names such as net.core.somaxconn or net.*,"
                    f" not {shown(name)}"
                )

    def allows(self, name: str) -> bool:
        return any(
            name.startswith(each[:-1]) if each.endswith("*") else name == each
            for each in self.allowed
        )


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding]:
    if not pod.pod_level or not pod.security.sysctls:
        return
    safe = SAFE_SINCE_1_37 if context.version >= (1, 37) else SAFE
    for index, sysctl in enumerate(pod.security.sysctls):
        if sysctl.name not in safe and not parameters.allows(sysctl.name or ""):
            yield Finding(
                path=f"/spec/securityContext/sysctls/{index}/name",
                detail=f"the sysctl {shown(sysctl.name)} reaches beyond the Pod",
                remedy="remove it, or have it set on the node",
            )


def cel(parameters: Parameters, version: Version) -> Cel:
    names = {each for each in parameters.allowed if not each.endswith("*")}
    safe = cel_list((SAFE_SINCE_1_37 if version >= (1, 37) else SAFE) | names)
    fine = [f"s.name in {safe}"]
    fine += [
        f"s.name.startsWith({json.dumps(each[:-1])})"
        for each in parameters.allowed
        if each.endswith("*")
    ]
    return Cel(
        detail="a sysctl reaches beyond the Pod: remove it, or have it set on the node",
        pod=f"variables.spec.?securityContext.?sysctls.orValue([]).all(s, {' || '.join(fine)})",
    )


RULE = Rule(
    name="safe-sysctls", level="baseline", doc=__doc__, check=check, cel=cel, parameters=Parameters
)
