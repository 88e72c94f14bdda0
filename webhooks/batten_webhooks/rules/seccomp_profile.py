"""Containers must run under a seccomp profile.

## What it does
Sets `securityContext.seccompProfile.type: RuntimeDefault` on the Pod when neither the Pod nor all
of its containers name a profile. It is set on the containers where the Pod's own fields cannot be
changed: on a new ephemeral container, and in Knative's templates. `Unconfined`, on the Pod or on a
container, is a violation and never changed. Windows Pods are left alone: the API server refuses
the field there.

This is the *Seccomp* control of the Pod Security Standards *restricted*: `RuntimeDefault` and
`Localhost` are allowed.

## Why is this bad?
Without a profile a process may call all of the kernel, also the calls that no ordinary program
needs and in which most escapes from containers were found.

## Example
```yaml
securityContext:
  seccompProfile:
    type: Unconfined
containers:
  - name: app
```

## Use instead
```yaml
securityContext:
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: app
```

## References
- https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
- https://kubernetes.io/docs/tutorials/security/seccomp/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version, cel_list, shown
from batten_webhooks.verdict import Change, Finding
from batten_webhooks.workload import SeccompProfile, Workload

ALLOWED = ("RuntimeDefault", "Localhost")
TYPE = "/securityContext/seccompProfile/type"


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    if pod.windows:
        return
    inherited = pod.security.seccompProfile
    confined = inherited is not None and inherited.type in ALLOWED
    if pod.pod_level and inherited is not None and not confined:
        yield _unusable("/spec", "", inherited)
    unsaid = False
    for site in pod.sites:
        own = site.security.seccompProfile
        if own is not None:
            if own.type not in ALLOWED:
                yield _unusable(site.pointer, site.name, own)
        elif not confined:
            if not pod.pod_level or context.apart or (pod.knative and inherited is None):
                yield _unsaid(site.pointer, site.name)
            else:
                unsaid = True
    if unsaid and inherited is None:
        yield _unsaid("/spec", "")


def _unsaid(place: str, container: str) -> Finding:
    return Finding(
        path=place + TYPE,
        container=container,
        detail="no seccomp profile is set",
        remedy="set it to RuntimeDefault",
        changes=(Change(place + TYPE, "RuntimeDefault"),),
    )


def _unusable(place: str, container: str, profile: SeccompProfile) -> Finding:
    if profile.type is None and profile.localhostProfile is None:
        return _unsaid(place, container)
    kind = "is missing" if profile.type is None else f"is {shown(profile.type)}"
    return Finding(
        path=place + TYPE,
        container=container,
        detail=f"seccompProfile.type {kind}",
        remedy="set it to RuntimeDefault, or to Localhost with a profile of the node's",
    )


def cel(_: NoParameters, _version: Version) -> Cel:
    own = "{}.?securityContext.?seccompProfile.?type.orValue({})"
    of_pod = own.format("variables.spec", "'{}'")
    allowed = cel_list(ALLOWED)
    inherited = own.format("c", of_pod.format(""))
    return Cel(
        detail="set securityContext.seccompProfile.type to RuntimeDefault, or to Localhost",
        pod=f"variables.windows || {of_pod.format('RuntimeDefault')} in {allowed}",
        container=f"variables.windows || {inherited} in {allowed}",
    )


RULE = Rule(
    name="seccomp-profile",
    level="restricted",
    doc=__doc__,
    check=check,
    cel=cel,
    mutates=True,
    overrides=("no-unconfined-seccomp",),
)
