"""Containers that do not run as root serve ports of 1024 and above.

## What it does
Warns of an image that exposes a TCP or UDP port below 1024, or of which a profile knows that it
serves one, unless the container adds `NET_BIND_SERVICE`, the Pod sets the sysctl
`net.ipv4.ip_unprivileged_port_start` to that port or lower, or the Pod says that the container runs
as root. It is told only where the image's configuration is known: in a cluster that looks images
up, or with `--look-up-images`.

## Why is this bad?
Only root may listen on a port below 1024. Runtimes differ: containerd 2 and newer lets everybody,
others end the program with "permission denied" at its start.

## Example
```yaml
containers:
  - name: web
    image: registry.example/web:1.4
```

## Use instead
```yaml
securityContext:
  sysctls:
    - {name: net.ipv4.ip_unprivileged_port_start, value: "80"}
containers:
  - name: web
    image: registry.example/web:1.4
```

## References
- https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/
- https://man7.org/linux/man-pages/man7/capabilities.7.html
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import WARN, Context, NoParameters, Rule, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Site, Workload

FIRST_UNPRIVILEGED = 1024
SYSCTL = "net.ipv4.ip_unprivileged_port_start"
CAPABILITIES = frozenset(("NET_BIND_SERVICE", "ALL"))
# Python reads no number of more than 4300.
MOST_DIGITS = 10


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if not context.facts.images:
        return
    if pod.windows or pod.spec.hostNetwork:
        return
    first = _first_unprivileged(pod)
    for site in pod.sites:
        text = site.container.image or ""
        image = context.facts.images.get(text)
        if image is None or _may_bind(pod, site):
            continue
        profile = image.profile
        ports = image.ports + (profile.ports if profile is not None else ())
        low = [port for port in ports if _number(port.partition("/")[0]) < first]
        if low:
            yield Finding(
                path=site.pointer + "/securityContext/capabilities/add",
                container=site.name,
                detail=f"image {shown(text)} serves {shown(low[0])}, which is for root",
                remedy=f"let the program listen on a higher port, or set the sysctl {SYSCTL}",
            )


def _first_unprivileged(pod: Workload) -> int:
    values = (each.value for each in pod.security.sysctls or () if each.name == SYSCTL)
    return _number(next(values, None) or "")


def _may_bind(pod: Workload, site: Site) -> bool:
    user = site.security.runAsUser
    if user is None:
        user = pod.security.runAsUser
    added = site.security.capabilities.add if site.security.capabilities is not None else None
    return user == 0 or not CAPABILITIES.isdisjoint(added or ())


def _number(digits: str) -> int:
    """What is no port is none that is privileged."""
    readable = digits.isascii() and digits.isdecimal() and len(digits) <= MOST_DIGITS
    return int(digits) if readable else FIRST_UNPRIVILEGED


RULE = Rule(
    name="unprivileged-ports",
    level="advice",
    doc=__doc__,
    check=check,
    actions=WARN,
    reads_images=True,
)
