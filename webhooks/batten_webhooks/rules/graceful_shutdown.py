"""Containers get time to finish what they are doing when their Pod is deleted.

## What it does
Where containers are restarted for ever (`restartPolicy: Always`), it adds a `preStop` hook that
sleeps to every app container without one, and sets `terminationGracePeriodSeconds`. Init
containers, sidecars and ephemeral containers get none. The hook is Kubernetes' own `sleep`, which
needs no shell in the image.

- A grace period of 30 seconds means "not said", since the API server writes it into every Pod: it
  is replaced by `terminationGracePeriodSeconds`, and the sleep is `preStopSleepSeconds`.
- Any other grace period is the user's and stays. The sleep is then a quarter of it, rounded down,
  but not more than `preStopSleepSeconds`. If that is nothing, nothing is added or demanded.
- A Pod that no controller made keeps its grace period of 30 seconds, because the field cannot be
  changed later and applying the same file again would fail: the sleep is 7 seconds.
- Where the image is known, it warns of a program that a shell starts (the shell form of ENTRYPOINT
  or CMD, without `exec`): it hears of no SIGTERM, and is killed at the end of its grace period.
- Templates of Knative's are left alone: it refuses both fields, and drains requests by itself.

## Why is this bad?
A Pod is removed from its Services while it is already being stopped. Requests that are still on
their way find nobody, and a short grace period cuts off those that were accepted.

## Example
```yaml
containers:
  - name: app
```

## Use instead
```yaml
terminationGracePeriodSeconds: 60
containers:
  - name: app
    lifecycle:
      preStop:
        sleep:
          seconds: 15
```

## References
- https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
- KEP-3960 (preStop sleep, API server 1.30 and newer):
  https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/3960-pod-lifecycle-sleep-action
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batten_webhooks.rules.rule import Context, Rule, shown
from batten_webhooks.verdict import Change, Finding, Unknown
from batten_webhooks.workload import Site, Workload

GRACE = "/spec/terminationGracePeriodSeconds"
# What the API server writes where a Pod does not say.
DEFAULT_GRACE = 30
ALWAYS = (None, "", "Always")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Seconds. `pre_stop_sleep_seconds` must be less than `termination_grace_period_seconds`."""

    pre_stop_sleep_seconds: int = 15
    termination_grace_period_seconds: int = 60

    def __post_init__(self) -> None:
        if not 0 < self.pre_stop_sleep_seconds < self.termination_grace_period_seconds:
            raise ValueError(
                "pre_stop_sleep_seconds must be more than 0 and less than "
                "termination_grace_period_seconds"
            )


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding | Unknown]:
    spec = pod.spec
    if not pod.pod_level or pod.knative:
        return
    if not spec.containers or spec.restartPolicy not in ALWAYS:
        return
    grace = spec.terminationGracePeriodSeconds
    wanted = parameters.termination_grace_period_seconds
    if pod.controlled and grace in (None, DEFAULT_GRACE) and wanted != DEFAULT_GRACE:
        yield _grace(grace, wanted)
        grace = wanted
    sleep = parameters.pre_stop_sleep_seconds
    if grace is None:
        grace = DEFAULT_GRACE
    if grace != wanted:
        sleep = min(sleep, grace // 4)
    if sleep <= 0:
        return
    for site in pod.sites:
        if site.role != "container":
            continue
        if context.facts.images:
            yield from _deaf(site, context)
        lifecycle = site.container.lifecycle
        if lifecycle is None or lifecycle.preStop is None:
            path = site.pointer + "/lifecycle/preStop"
            yield Finding(
                path=path,
                container=site.name,
                detail="it is stopped while requests may still be sent to it",
                remedy=f"add a preStop hook that sleeps {sleep} seconds",
                changes=(Change(path, {"sleep": {"seconds": sleep}}),),
            )


def _deaf(site: Site, context: Context) -> Iterator[Unknown]:
    """Nobody knows what a shell makes of the signal: most never tell their program."""
    text = site.container.image or ""
    image = context.facts.images.get(text)
    if image is not None and image.shell_form and site.container.command is None:
        yield Unknown(
            path=site.pointer + "/command",
            container=site.name,
            detail=f"image {shown(text)} starts its program by a shell, which passes on no SIGTERM:"
            " it is killed when its grace period ends",
        )


def _grace(grace: int | None, wanted: int) -> Finding:
    said = "is not set" if grace is None else f"is {grace}, the API server's default"
    return Finding(
        path=GRACE,
        detail=f"terminationGracePeriodSeconds {said}",
        remedy=f"set it to {wanted}",
        changes=(Change(GRACE, wanted, "add" if grace is None else "replace"),),
    )


RULE = Rule(
    name="graceful-shutdown",
    level="hardened",
    doc=__doc__,
    check=check,
    mutates=True,
    parameters=Parameters,
    reads_images=True,
)
