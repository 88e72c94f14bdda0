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

Many images start as root to give their volume to a user, and go on as that one. Where a profile
knows such an image, the kubelet gives the volume away instead: a Pod without an `fsGroup` gets the
profile's group, with `fsGroupChangePolicy: OnRootMismatch`. It is the group of all of the Pod's
containers then, and of the volumes that they may write, and it reads Secrets and ConfigMaps whose
mode is for root alone. Where that would not do, the image is
refused, and the user is yours to set:

- a volume that may be written and takes no `fsGroup`: `hostPath`, `nfs` and other shared ones;
- a directory that the program has to own, such as PostgreSQL's `PGDATA`, right where a volume is
  mounted: name one below it, which the program makes itself;
- a volume in which the program keeps a secret that its group must not read, as RabbitMQ does;
- a `command` that is not the image's own program, and a shell in `args`: what they need is not
  known;
- a path that the program writes, where nothing is mounted and `writable-tmp` is not there to do it,
  or a variable that it needs, where an `envFrom` hides whether it is set;
- a Pod whose own fields cannot be changed, in a template of Knative's or where an exception lifts
  the rule for one of its containers.

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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from batten_webhooks.image_facts import SHELLS, ImageFacts, Profile
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
from batten_webhooks.volumes import (
    WITHOUT_GROUP,
    by_name,
    covering,
    normal,
    read_only,
    source_of,
)
from batten_webhooks.workload import Site, Workload

NON_ROOT = "/securityContext/runAsNonRoot"
USER, GROUP = "/securityContext/runAsUser", "/securityContext/runAsGroup"
FS_GROUP = "/spec/securityContext/fsGroup"
FS_GROUP_POLICY = "/spec/securityContext/fsGroupChangePolicy"
READ_BY_OTHERS = 0o004
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
    path = site.pointer + USER
    if known is None or known.user is None:
        if sure:
            return ()
        doubt = f"whether image {shown(image)} runs as root is not known; if so, it is not started"
        return (Unknown(path=path, container=site.name, detail=doubt),)
    name = known.user.partition(":")[0]
    uid = _uid(name)
    root = not name or uid == 0 or name == "root"
    if root:
        detail = f"image {shown(image)} runs as root (USER is {shown(name) if name else 'empty'})"
    elif uid is not None:
        return ()
    else:
        detail = (
            f"image {shown(image)} names its user {shown(name)}, "
            "which the kubelet cannot verify to be non-root"
        )
    if known.profile is None:
        remedy = "set a non-zero uid, or use an image with a numeric USER"
        return (Finding(path=path, container=site.name, detail=detail, remedy=remedy),)
    # Who is named by a word goes on as the same user; who was root needs what root did for him.
    changes = _as_user(pod, site, known.profile)
    if root:
        taken = _taken_over(pod, site, known, known.profile, context)
        if isinstance(taken, _Obstacle):
            detail = f"{detail}, and {taken.why}"
            return (Finding(path=path, container=site.name, detail=detail, remedy=taken.remedy),)
        changes += taken
    remedy = f"set it to {known.profile.user}, the user of profile {known.profile.name}"
    return (Finding(path, detail, remedy, site.name, changes),)


def _as_user(pod: Workload, site: Site, profile: Profile) -> tuple[Change, ...]:
    """A group is set with the user: without one the process would be of root's."""
    user = Change(site.pointer + USER, profile.user)
    if site.security.runAsGroup is not None or pod.security.runAsGroup is not None:
        return (user,)
    return (user, Change(site.pointer + GROUP, profile.group))


# --- what root did ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """`why` completes "image X runs as root, and …"."""

    why: str
    remedy: str


def _taken_over(
    pod: Workload, site: Site, image: ImageFacts, profile: Profile, context: Context
) -> tuple[Change, ...] | _Obstacle:
    """What lets the profile's user do without root, or what is in the way."""
    lasting = _lasting(pod, site) if profile.data else ()
    obstacles = chain(
        _of_program(site, image, profile),
        _of_nothing_mounted(site, profile, context),
        _of_environment(site, profile, context),
        _of_owned(site, profile),
        *(_of_volume(source, at, profile) for source, at in lasting),
    )
    obstacle = next(obstacles, None)
    if obstacle is not None:
        return obstacle
    if not (lasting or _closed(pod, site)) or pod.security.fsGroup is not None:
        return ()
    if not pod.pod_level or pod.knative or context.apart:
        why = "the Pod's fsGroup would let it at its volumes, and is not to be set here"
        return _Obstacle(why, f"set fsGroup to {profile.group}, and this to {profile.user}")
    group = Change(FS_GROUP, profile.group)
    if pod.security.fsGroupChangePolicy is not None:
        return (group,)
    # Always would open, at each start, what the program has closed.
    return (group, Change(FS_GROUP_POLICY, "OnRootMismatch"))


def _lasting(pod: Workload, site: Site) -> list[tuple[str, str]]:
    """Of each volume that the container may write, and that is not the Pod's alone, what it is and
    where."""
    volumes = by_name(pod)
    return [
        (source, mount.mountPath)
        for mount in site.container.volumeMounts or ()
        if not read_only(mount, volumes)
        and (source := source_of(mount, volumes)) not in ("", "emptyDir")
    ]


def _closed(pod: Workload, site: Site) -> bool:
    """Whether a file of a ConfigMap or the like is for root alone, as long as it has no group."""
    volumes = by_name(pod)
    for mount in site.container.volumeMounts or ():
        source = volumes.get(mount.name, {}).get(source_of(mount, volumes))
        if isinstance(source, dict) and any(
            isinstance(mode, int) and not mode & READ_BY_OTHERS for mode in _modes(source)
        ):
            return True
    return False


def _modes(source: Mapping[str, Any]) -> Iterator[Any]:
    yield source.get("defaultMode")
    items = source.get("items")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield item.get("mode")


def _of_program(site: Site, image: ImageFacts, profile: Profile) -> Iterator[_Obstacle]:
    if not _own_program(site, image):
        why = "what its command needs is not known"
        yield _Obstacle(why, f"set a uid that will do; the image's own is {profile.user}")


def _own_program(site: Site, image: ImageFacts) -> bool:
    """Whether it is the image's program that is started: of another nobody knows what it needs."""
    command, args = _words(site.container.command), _words(site.container.args)
    if not command:
        return not args or _base(args[0]) not in SHELLS
    return _base(command[0]) in {_base(word) for word in (*image.entrypoint, *image.cmd[:1])}


def _words(value: Any) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _base(program: str) -> str:
    return program.rpartition("/")[2]


def _of_nothing_mounted(site: Site, profile: Profile, context: Context) -> Iterator[_Obstacle]:
    if context.volumes and site.role != "ephemeralContainer":
        return
    mounted = [mount.mountPath for mount in site.container.volumeMounts or ()]
    for path in profile.writable:
        if covering(mounted, path) is None:
            why = f"as user {profile.user} it writes to {path}, where nothing is mounted"
            yield _Obstacle(why, f"mount an emptyDir at {path}, or set another uid")


def _of_environment(site: Site, profile: Profile, context: Context) -> Iterator[_Obstacle]:
    if not site.container.envFrom and context.volumes and site.role != "ephemeralContainer":
        return
    said = {each.name for each in site.container.env or ()}
    for name, value in profile.environment.items():
        if name not in said:
            why = f"without root it needs {name}, which its env does not say"
            yield _Obstacle(why, f"set {name} to {shown(value)} in its env, or set another uid")


def _of_owned(site: Site, profile: Profile) -> Iterator[_Obstacle]:
    """A volume's root belongs to root, whatever its group."""
    mounted = {normal(mount.mountPath) for mount in site.container.volumeMounts or ()}
    for variable, usual in profile.owned.items():
        said = next((each.value for each in site.container.env or () if each.name == variable), "")
        for at in mounted.intersection((normal(said),) if said else usual):
            yield _Obstacle(
                f"it has to own {shown(at)}, where a volume is mounted",
                f"name a directory below in {variable}, which it will make; where the volume holds"
                f" its data already, set this to {profile.user} yourself",
            )


def _of_volume(source: str, at: str, profile: Profile) -> Iterator[_Obstacle]:
    volume = f"the {source} volume at {shown(at)}"
    if source in WITHOUT_GROUP:
        yield _Obstacle(
            f"{volume} takes no fsGroup, which would give it to group {profile.group}",
            f"set this to {profile.user} if that user may write there, or mount another volume",
        )
    if profile.guards:
        yield _Obstacle(
            f"it refuses files that fsGroup would let its group read in {volume}",
            f"set this to {profile.user}; for a new volume set the Pod's fsGroup, too",
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
