"""Windows containers are not processes of their node.

## What it does
Refuses `windowsOptions.hostProcess: true`, of the Pod and of any container.

## Why is this bad?
A HostProcess container runs on the Windows node itself, with its network, its files and, as a
member of its administrators, all of its rights.

## Example
```yaml
os:
  name: windows
securityContext:
  windowsOptions:
    hostProcess: true
containers:
  - name: app
```

## Use instead
```yaml
os:
  name: windows
containers:
  - name: app
```

## References
- Pod Security Standards, baseline, *HostProcess*:
  https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import WindowsOptions, Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if pod.pod_level and _is_host_process(pod.security.windowsOptions):
        yield _finding("/spec", "")
    for site in pod.sites:
        if _is_host_process(site.security.windowsOptions):
            yield _finding(site.pointer, site.name)


def _is_host_process(options: WindowsOptions | None) -> bool:
    return options is not None and options.hostProcess is True


def _finding(place: str, container: str) -> Finding:
    return Finding(
        path=f"{place}/securityContext/windowsOptions/hostProcess",
        container=container,
        detail="hostProcess runs it on the node itself",
        remedy="remove it",
    )


def cel(_: NoParameters, _version: Version) -> Cel:
    fine = "!{}.?securityContext.?windowsOptions.?hostProcess.orValue(false)"
    return Cel(
        detail="hostProcess runs it on the node itself: remove it",
        pod=fine.format("variables.spec"),
        container=fine.format("c"),
    )


RULE = Rule(name="no-host-process", level="baseline", doc=__doc__, check=check, cel=cel)
