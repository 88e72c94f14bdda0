"""Images are named by the digest of their bytes.

## What it does
Replaces the tag of every image, image volumes among them, by the digest that its registry has for
it at that moment: `nginx:1.27` becomes `nginx:1.27@sha256:…`. The tag stays, for people to read.
The digest is that of the index, so that nodes of every architecture find theirs.

In a cluster this is done once for each revision of a workload (its ReplicaSet, its
ControllerRevision, its Job), and all of its Pods take the digest from there: replicas, restarts and
rollbacks run the same bytes, whatever becomes of the tag. Templates are left as they were applied.
In files `batten harden --pin` writes the digests.

Where a registry does not say which digest it is, the Pod keeps its tag, and this rule's
`validationActions` say whether it may run; they are `[Warn]` unless a policy says otherwise of this
very rule. Templates are only ever warned of: their Pods are tried again.

`leaveAlone`, `require` and `forbid` take patterns of images: `registry.example/*` is everything of
one registry, `registry.example/team/app` one image; without a registry it is docker.io. An image
that is left alone keeps its tag. Where `require` is given every image must match it; none may match
`forbid`, by whatever name of its registry. These two name no tags: what runs is a digest. Pods get
`imagePullSecrets` added to their own; the Secrets are for others to make.

## Why is this bad?
A tag can be moved. Two replicas may run different programs, a restart may be an upgrade, a rollback
may bring back something else, and what was scanned need not be what runs.

## Example
```yaml
containers:
  - name: app
    image: app:1.4.2
```

## Use instead
```yaml
containers:
  - name: app
    image: app:1.4.2@sha256:8b1f1ec8fd8dee1b9a0d6c1c5d9f5b0b1f0d3e6a8c4b2f7e9d1a3c5e7f9b0d24
```

## References
- https://kubernetes.io/docs/concepts/containers/images/#image-names
- https://github.com/opencontainers/image-spec/blob/v1.1.0/descriptor.md#digests
- https://kubernetes.io/docs/concepts/containers/images/#specifying-imagepullsecrets-on-a-pod
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from batten_webhooks.image_pattern import InvalidPattern, parse_pattern
from batten_webhooks.reference import InvalidReference, Reference, parse_reference
from batten_webhooks.rules.rule import WARN, Context, Missing, Rule, shown
from batten_webhooks.verdict import Change, Finding, Unknown
from batten_webhooks.workload import Workload

# RFC 1123, as names of Secrets are.
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
PULL_SECRETS = "/spec/imagePullSecrets"
LONGEST_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Parameters:
    """Patterns of images, as `registry.example/*`, and names of Secrets. See `batten explain`."""

    leave_alone: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("leave_alone", "require", "forbid"):
            for text in getattr(self, name):
                try:
                    pattern = parse_pattern(text)
                except InvalidPattern as error:
                    raise ValueError(f"{name} {text!r} {error}") from None
                if name != "leave_alone" and pattern.tag and not pattern.digest:
                    raise ValueError(f"{name} {text!r} names a tag, and what runs is a digest")
        for text in self.image_pull_secrets:
            if not OBJECT_NAME.fullmatch(text):
                raise ValueError(f"image_pull_secrets {text!r} is no name of a Secret")


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding | Unknown]:
    for pointer, container, image in pod.images:
        reference = readable(image)
        if reference is None:
            continue  # no-latest-tag tells of it
        objection = _objection(image, parameters)
        if objection:
            yield Finding(
                path=pointer,
                container=container,
                detail=f"image {shown(image)} {objection}",
                remedy="take it from a registry that the policy lets in",
            )
        if not reference.digest and not matches(parameters.leave_alone, image):
            yield _unpinned(pod, pointer, container, image, context)
    yield from _pull_secrets(pod, parameters)


def to_pin(pod: Workload, parameters: Parameters) -> dict[str, Reference]:
    """The references of a Pod that lack a digest and are to have one."""
    return {
        image: reference
        for _, _, image in pod.images
        if (reference := readable(image))
        and not reference.digest
        and not matches(parameters.leave_alone, image)
    }


def matches(patterns: tuple[str, ...], image: str) -> bool:
    return any(_pattern(text).matches(image) for text in patterns)


def readable(image: object) -> Reference | None:
    """None for what names no image."""
    if not isinstance(image, str):
        return None
    return _remembered(image) if len(image) <= LONGEST_REMEMBERED else _read(image)


def _read(image: str) -> Reference | None:
    try:
        return parse_reference(image)
    except InvalidReference:
        return None


# A cluster runs the same few hundred images again and again, under a few patterns.
_remembered = lru_cache(maxsize=2048)(_read)
_pattern = lru_cache(maxsize=1024)(parse_pattern)


def _objection(image: str, parameters: Parameters) -> str:
    if parameters.require and not matches(parameters.require, image):
        return f"is none of those that are required: {', '.join(parameters.require)}"
    if any(_pattern(text).matches(image, spelt=False) for text in parameters.forbid):
        return "is of those that are forbidden"
    return ""


def _unpinned(
    pod: Workload, pointer: str, container: str, image: str, context: Context
) -> Finding | Unknown:
    """Where nobody has asked for the digest, a cluster's own webhook will."""
    known = context.facts.digests.get(image)
    if isinstance(known, str):
        return Finding(
            path=pointer,
            container=container,
            detail=f"image {shown(image)} is named by a tag, which can be moved",
            remedy=f"name its digest, {known}",
            changes=(Change(pointer, f"{image}@{known}", "replace"),),
        )
    if isinstance(known, Missing):
        detail = f"image {shown(image)} is not pinned: {known.why}"
        if not pod.is_pod:
            return Unknown(path=pointer, container=container, detail=detail)
        return Finding(pointer, detail, "name its digest, or try again", container)
    return Finding(
        path=pointer,
        container=container,
        detail=f"image {shown(image)} has no digest",
        remedy="name it, as batten harden --pin does",
        at_admission=True,
    )


def _pull_secrets(pod: Workload, parameters: Parameters) -> Iterator[Finding]:
    """Of Pods alone: a template that names any does without its ServiceAccount's."""
    if not (parameters.image_pull_secrets and pod.is_pod and pod.pod_level):
        return
    named = {each.name for each in pod.spec.imagePullSecrets or ()}
    for secret in parameters.image_pull_secrets:
        if secret not in named:
            yield Finding(
                path=PULL_SECRETS,
                detail=f"the Secret {secret} is not among its imagePullSecrets",
                remedy="name it there",
                changes=(Change(f"{PULL_SECRETS}/-", {"name": secret}),),
            )


RULE = Rule(
    name="pinned-digest",
    level="hardened",
    doc=__doc__,
    check=check,
    mutates=True,
    actions=WARN,
    parameters=Parameters,
)
