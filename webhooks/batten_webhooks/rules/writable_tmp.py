"""Containers have a /tmp to write to, although their root filesystem is read-only.

## What it does
Mounts an `emptyDir` with a `sizeLimit` at `/tmp` in every app container, init container and sidecar
in which nothing is mounted there or above. Each container gets a volume of its own,
`batten-tmp-<container>`, as containers share no `/tmp` otherwise either. Containers that say
`readOnlyRootFilesystem: false` need none. Something read-only at `/tmp` (a ConfigMap, `readOnly:
true`) is a violation and never changed. Windows Pods and ephemeral containers are left alone.

More paths come from the Pod's annotation `batten.dev/writable-paths`, at most 32 entries separated
by commas. An entry is an absolute path for all of these containers, or `container:/path` for one:

    batten.dev/writable-paths: "/var/cache/nginx, /run, worker:/var/lib/worker"

`/`, `/proc`, `/sys` and `/dev`, paths with `..` or `:` in them, and entries of more than 255
characters are violations.

Where images are looked up, so do the paths that a profile knows of a container's image, even where
the root filesystem is writable: they may be root's in the image. And a variable that the program
needs to run restricted is added to `env` where neither `env` nor an `envFrom` could set it.

The added volumes are appended to `cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes`, so
that they do not keep the autoscaler from removing a node. An emptyDir hides what the image holds at
its path, has mode 0777 without the sticky bit, outlives a restart of its container but not its Pod,
and makes `kubectl drain` ask for `--delete-emptydir-data`. A container that exceeds `sizeLimit` has
its Pod evicted.

## Why is this bad?
Many programs write temporary files. On a read-only root filesystem they fail, often only under
load, and the usual answer is to make all of it writable again.

## Example
```yaml
containers:
  - name: app
    securityContext:
      readOnlyRootFilesystem: true
```

## Use instead
```yaml
containers:
  - name: app
    securityContext:
      readOnlyRootFilesystem: true
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 1Gi
```

## References
- https://kubernetes.io/docs/concepts/storage/volumes/#emptydir
- https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from batten_webhooks.image_facts import Profile
from batten_webhooks.rules.rule import Context, Rule, shown
from batten_webhooks.verdict import Change, Finding, pointer_token
from batten_webhooks.volumes import below, by_name, covering, normal, read_only
from batten_webhooks.workload import Site, Workload

TMP = "/tmp"  # noqa: S108
PATHS_ANNOTATION = "batten.dev/writable-paths"
EVICT_ANNOTATION = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
MOST_ENTRIES = 32
LONGEST_ENTRY = 255
KERNEL_PATHS = ("/proc", "/sys", "/dev")
LONGEST_NAME = 63

_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_QUANTITY = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(k|[MGTPE]|[KMGTPE]i)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parameters:
    """`size_limit` of each volume, as a Kubernetes quantity of bytes."""

    size_limit: str = "1Gi"

    def __post_init__(self) -> None:
        if not _QUANTITY.fullmatch(self.size_limit):
            raise ValueError("size_limit must be a quantity of bytes such as 1Gi")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the annotation; an empty `container` means all of them."""

    container: str
    path: str


class BadEntry(ValueError):
    """The message completes "the entry X …"."""


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding]:
    if pod.windows or not pod.pod_level:
        return
    entries: list[Entry] = []
    annotation = pod.annotations.get(PATHS_ANNOTATION)
    if annotation:
        yield from _read(annotation, pod, entries)
    missing: list[tuple[Site, str]] = []
    volumes: Mapping[str, Mapping[str, Any]] | None = None
    for site in pod.sites:
        if site.role == "ephemeralContainer":
            continue
        mounts = site.container.volumeMounts or ()
        mounted = [mount.mountPath for mount in mounts]
        profile = _profile(site, context) if context.facts.images else None
        own = profile.paths if profile is not None else ()
        writable = site.security.readOnlyRootFilesystem is False
        for path in _paths(site, entries, own) if entries or own else (TMP,):
            index = covering(mounted, path)
            if index is None:
                if not writable or (path in own and not _said_user(pod, site)):
                    missing.append((site, path))
                continue
            if volumes is None:
                volumes = by_name(pod)
            reason = read_only(mounts[index], volumes)
            if reason:
                yield _cannot_write(site, path, index, reason)
        if profile is not None and profile.environment:
            yield from _unset(site, profile)
    if missing:
        yield from _add(pod, missing, parameters)


def _profile(site: Site, context: Context) -> Profile | None:
    image = context.facts.images.get(site.container.image or "")
    return image.profile if image is not None else None


def _said_user(pod: Workload, site: Site) -> bool:
    return site.security.runAsUser is not None or pod.security.runAsUser is not None


def _unset(site: Site, profile: Profile) -> Iterator[Finding]:
    """The profile's variables that nothing in the container could set."""
    if site.container.envFrom:
        return
    said = {each.name for each in site.container.env or ()}
    for name, value in profile.environment.items():
        if name not in said:
            yield Finding(
                path=site.pointer + "/env",
                container=site.name,
                detail=f"{name} is not set, which profile {profile.name} needs",
                remedy=f"set it to {shown(value)}",
                changes=(Change(site.pointer + "/env/-", {"name": name, "value": value}),),
            )


# --- what is there ------------------------------------------------------------------------------


def _cannot_write(site: Site, path: str, index: int, reason: str) -> Finding:
    return Finding(
        path=f"{site.pointer}/volumeMounts/{index}",
        container=site.name,
        detail=f"{shown(path)} cannot be written: what is mounted there {reason}",
        remedy="mount it elsewhere, or mount something that can be written",
    )


# --- what is wanted -----------------------------------------------------------------------------


def _read(annotation: str, pod: Workload, entries: list[Entry]) -> Iterator[Finding]:
    """Puts the annotation's good entries into `entries`; yields a finding for each bad one."""
    containers = {site.name for site in pod.sites if site.role != "ephemeralContainer"}
    texts = [text for text in (part.strip() for part in annotation.split(",")) if text]
    for text in texts[:MOST_ENTRIES]:
        try:
            entries.append(_entry(text, containers))
        except BadEntry as error:
            yield _bad(f"the entry {shown(text)} {error}")
    if len(texts) > MOST_ENTRIES:
        yield _bad(f"it has {len(texts)} entries, more than {MOST_ENTRIES}")


def _entry(text: str, containers: Iterable[str]) -> Entry:
    container, path = "", text
    if len(text) > LONGEST_ENTRY:
        raise BadEntry(f"is longer than {LONGEST_ENTRY} characters")
    if not text.startswith("/"):
        container, colon, path = text.partition(":")
        if colon and container not in containers:
            raise BadEntry("is for a container that the Pod does not have")
        if not path.startswith("/"):
            raise BadEntry("is not an absolute path")
    if ":" in path:
        raise BadEntry("has a colon in its path")
    if ".." in path.split("/"):
        raise BadEntry('has ".." in its path')
    if not path.isprintable():
        raise BadEntry("has a control character in its path")
    path = normal(path)
    if path == "/":
        raise BadEntry("is the root filesystem itself")
    if any(path == kernel or below(path, kernel) for kernel in KERNEL_PATHS):
        raise BadEntry("is a filesystem of the kernel's")
    return Entry(container, path)


def _bad(detail: str) -> Finding:
    return Finding(
        path=f"/metadata/annotations/{pointer_token(PATHS_ANNOTATION)}",
        detail=f"{PATHS_ANNOTATION}: {detail}",
        remedy=f"write at most {MOST_ENTRIES} absolute paths, separated by commas, "
        "each alone or as container:/path",
    )


def _paths(site: Site, entries: Sequence[Entry], own: Sequence[str]) -> list[str]:
    """`/tmp`, the container's paths and its image's own, without those that lie below another."""
    wanted = {entry.path for entry in entries if entry.container in ("", site.name)} | {TMP, *own}
    outermost: list[str] = []
    for path in sorted(wanted):
        if not any(below(path, above) for above in outermost):
            outermost.append(path)
    return outermost


# --- what is added ------------------------------------------------------------------------------


def _add(
    pod: Workload, missing: Sequence[tuple[Site, str]], parameters: Parameters
) -> Iterator[Finding]:
    taken = dict.fromkeys(by_name(pod), 1)
    names = [_volume_name(site, path, taken) for site, path in missing]
    evict = _evict(pod, names)
    for (site, path), name in zip(missing, names, strict=True):
        volume = {"name": name, "emptyDir": {"sizeLimit": parameters.size_limit}}
        mount = {"name": name, "mountPath": path}
        yield Finding(
            path=site.pointer + "/volumeMounts",
            container=site.name,
            detail=f"no volume is mounted at {shown(path)}",
            remedy="mount an emptyDir there",
            changes=(
                Change("/spec/volumes/-", volume),
                Change(site.pointer + "/volumeMounts/-", mount),
                *evict,
            ),
        )
        evict = ()


def _volume_name(site: Site, path: str, taken: dict[str, int]) -> str:
    """A DNS label of the path and the container, so that a sidecar injected later moves no name.

    `taken` are the names that are used already, with how often each was asked for.
    """
    wanted = _NOT_IN_NAMES.sub("-", f"batten{path}-{site.name}".lower()).strip("-")
    if len(wanted) > LONGEST_NAME:
        digest = sha256(f"{site.name}:{path}".encode(errors="surrogatepass")).hexdigest()[:8]
        wanted = f"{wanted[: LONGEST_NAME - 9].rstrip('-')}-{digest}"
    name = wanted
    while name in taken:
        taken[wanted] += 1
        suffix = f"-{taken[wanted]}"
        name = wanted[: LONGEST_NAME - len(suffix)].rstrip("-") + suffix
    taken[name] = 1
    return name


def _evict(pod: Workload, names: Sequence[str]) -> tuple[Change, ...]:
    path = f"/metadata/annotations/{pointer_token(EVICT_ANNOTATION)}"
    said = pod.annotations.get(EVICT_ANNOTATION)
    known = set((said or "").split(","))
    new = ",".join(name for name in names if name not in known)
    if not new:
        return ()
    if said is None:
        return (Change(path, new),)
    return (Change(path, f"{said},{new}" if said.strip() else new, "replace"),)


RULE = Rule(
    name="writable-tmp",
    level="hardened",
    doc=__doc__,
    check=check,
    mutates=True,
    reads_images=True,
    parameters=Parameters,
)
