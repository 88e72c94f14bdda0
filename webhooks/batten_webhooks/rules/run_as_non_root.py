"""Containers must not run as root.

## What it does
Sets `securityContext.runAsNonRoot: true` on the Pod when neither the Pod nor all of its containers
say so. It is set on the containers where the Pod's own fields cannot be changed: on a new ephemeral
container, and in Knative's templates. An explicit `runAsNonRoot: false` or `runAsUser: 0`, on the
Pod or on a container, is a violation and never changed.

The kubelet starts such a container only if it can tell that its user is not root. With no
`runAsUser` the image's USER decides, and when that is known, an image that runs as root, or that
names its user by a word, is refused here instead of ending in `CreateContainerConfigError`; one
that a profile knows is given its `runAsUser` and `runAsGroup` instead. When it is not known,
`runAsNonRoot: true` is set and the doubt is reported.

This is the `runAsNonRoot` and the `runAsUser` control of the Pod Security Standards *restricted*.
From v1.35 on they leave Pods in a user namespace (`hostUsers: false`) alone. On Windows only
`runAsNonRoot` exists.

## Why is this bad?
Root in a container is root on the node as soon as anything else gives way: a kernel flaw, a
writable host path, a runtime's defect.

## Example
```yaml
securityContext:
  runAsUser: 0
containers:
  - name: app
    image: registry.example/app:1.4
```

## Use instead
```yaml
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
containers:
  - name: app
    image: registry.example/app:1.4
```

## References
- https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
- https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
- KEP-127 (user namespaces):
  https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/127-user-namespaces
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from batten_webhooks.image_facts import Profile
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
from batten_webhooks.verdict import Change, Finding, Unknown
from batten_webhooks.workload import Site, Workload

NON_ROOT = "/securityContext/runAsNonRoot"
USER, GROUP = "/securityContext/runAsUser", "/securityContext/runAsGroup"
# What the kubelet reads as a number, by Go's strconv.ParseInt; any other USER is a name to it.
NUMBER = re.compile(r"[+-]?[0-9]{1,1000}", re.ASCII)
MOST, LEAST = 2**63 - 1, -(2**63)


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding | Unknown]:
    if pod.spec.hostUsers is False and context.version >= USER_NAMESPACES_SINCE:
        return
    inherited = pod.security.runAsNonRoot
    if pod.pod_level:
        if inherited is False:
            yield _said_false("/spec", "")
        if pod.security.runAsUser == 0:
            yield _root_user("/spec", "")
    unsaid = False
    for site in pod.sites:
        said = site.security.runAsNonRoot
        if said is False:
            yield _said_false(site.pointer, site.name)
        elif said is None and not inherited:
            if not pod.pod_level or context.apart or (pod.knative and inherited is None):
                yield _unsaid(site.pointer, site.name)
            else:
                unsaid = True
        yield from _user(pod, site, context)
    if unsaid and inherited is None:
        yield _unsaid("/spec", "")


def _user(pod: Workload, site: Site, context: Context) -> Iterable[Finding | Unknown]:
    """What is wrong with the user that the container would run as."""
    own, inherited = site.security.runAsUser, pod.security.runAsUser
    if own == 0 or (own is None and inherited == 0 and not pod.pod_level):
        return (_root_user(site.pointer, site.name),)
    if own is not None or inherited is not None or pod.windows:
        return ()
    said = site.security.runAsNonRoot
    if said is None:
        said = pod.security.runAsNonRoot
    return () if said is False else _image_user(pod, site, context, sure=bool(said))


def _said_false(place: str, container: str) -> Finding:
    return Finding(
        path=place + NON_ROOT,
        container=container,
        detail="runAsNonRoot is set to false",
        remedy="set it to true",
    )


def _unsaid(place: str, container: str) -> Finding:
    path = place + NON_ROOT
    return Finding(
        path=path,
        container=container,
        detail="nothing keeps it from running as root"
        if container
        else "nothing keeps its containers from running as root",
        remedy="set it to true",
        changes=(Change(path, True),),
    )


def _root_user(place: str, container: str) -> Finding:
    return Finding(
        path=place + USER,
        container=container,
        detail="runAsUser is 0, which is root",
        remedy="set a non-zero uid",
    )


def _image_user(
    pod: Workload, site: Site, context: Context, *, sure: bool
) -> Iterable[Finding | Unknown]:
    """What the kubelet will make of the image's USER, `uid[:gid]` or `name[:group]`.

    An unknown USER is reported where it is this rule that asks for runAsNonRoot, not the user.
    """
    image = site.container.image or ""
    known = context.facts.images.get(image)
    user = known.user if known is not None else None
    path = site.pointer + USER
    if user is None:
        if sure:
            return ()
        doubt = f"whether image {shown(image)} runs as root is not known; if so, it is not started"
        return (Unknown(path=path, container=site.name, detail=doubt),)
    name = user.partition(":")[0]
    uid = _uid(name)
    if not name or uid == 0 or name == "root":
        detail = f"image {shown(image)} runs as root (USER is {shown(name) if name else 'empty'})"
    elif uid is not None:
        return ()
    else:
        detail = (
            f"image {shown(image)} names its user {shown(name)}, "
            "which the kubelet cannot verify to be non-root"
        )
    if known is not None and known.profile is not None:
        return (_of_profile(pod, site, detail, known.profile),)
    remedy = "set a non-zero uid, or use an image with a numeric USER"
    return (Finding(path=path, container=site.name, detail=detail, remedy=remedy),)


def _of_profile(pod: Workload, site: Site, detail: str, profile: Profile) -> Finding:
    """A group is set with the user: without one the process would be of root's."""
    changes = [Change(site.pointer + USER, profile.user)]
    if site.security.runAsGroup is None and pod.security.runAsGroup is None:
        changes.append(Change(site.pointer + GROUP, profile.group))
    return Finding(
        path=site.pointer + USER,
        container=site.name,
        detail=detail,
        remedy=f"set it to {profile.user}, the user of profile {profile.name}",
        changes=tuple(changes),
    )


def _uid(user: str) -> int | None:
    uid = int(user) if NUMBER.fullmatch(user) else None
    return uid if uid is None or LEAST <= uid <= MOST else None


def cel(_: NoParameters, version: Version) -> Cel:
    pod = "variables.spec.?securityContext"
    exempt = cel_unless_user_namespace(version)
    said = f"c.?securityContext.?runAsNonRoot.orValue({pod}.?runAsNonRoot.orValue(false))"
    return Cel(
        detail="set securityContext.runAsNonRoot to true, and no runAsUser of 0",
        pod=f"{exempt}({pod}.?runAsNonRoot.orValue(true) && {pod}.?runAsUser.orValue(1) != 0)",
        container=f"{exempt}({said} && c.?securityContext.?runAsUser.orValue(1) != 0)",
    )


RULE = Rule(
    name="run-as-non-root",
    level="restricted",
    doc=__doc__,
    check=check,
    cel=cel,
    mutates=True,
    reads_images=True,
)
