"""Images must be named with a tag other than latest, or with a digest.

## What it does
Refuses images, image volumes among them, that have neither tag nor digest, that have the tag
`latest`, or whose reference the kubelet could not read. A digest settles what is run whatever the
tag says: `app:latest@sha256:…` is accepted.

## Why is this bad?
`latest` is whatever was pushed last. Two replicas run different programs, a restart is an upgrade,
and there is nothing to roll back to.

## Example
```yaml
containers:
  - name: app
    image: registry.example:5000/team/app
```

## Use instead
```yaml
containers:
  - name: app
    image: registry.example:5000/team/app:1.4.2
```

## References
- https://kubernetes.io/docs/concepts/containers/images/#image-names
- https://kubernetes.io/docs/concepts/configuration/overview/
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from batten_webhooks.reference import InvalidReference, parse_reference
from batten_webhooks.rules.rule import Cel, Context, NoParameters, Rule, Version, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

LONGEST_REMEMBERED = 512

# The grammar of references in RE2, with a tag or a digest. A first part with a dot is a registry.
_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = rf"(?:{_HOST}(?:\.{_HOST})*|\[[a-fA-F0-9]*:[a-fA-F0-9:]*\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAMESPACE = r"[a-z0-9]+(?:(?:_|__|-+)[a-z0-9]+)*"
_TAG = r":\w[\w.-]{0,127}"
_DIGEST = r"@(?:sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128})"
_NAME = rf"(?:(?:{_REGISTRY}|{_NAMESPACE})(?:/{_PART})+|{_PART})"
_PINNED = rf"^{_NAME}(?:{_TAG}|(?:{_TAG})?{_DIGEST})$"


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    for pointer, container, image in pod.images:
        objection = _objection(image)
        if objection:
            yield Finding(
                path=pointer,
                container=container,
                detail=objection,
                remedy="name the tag of a version, or a digest",
            )


def _objection(image: Any) -> str:
    """What is wrong with it, "" for nothing."""
    if not isinstance(image, str) or not image:
        return "no image is named"
    return _remembered(image) if len(image) <= LONGEST_REMEMBERED else _judge(image)


def _judge(image: str) -> str:
    try:
        reference = parse_reference(image)
    except InvalidReference as error:
        return f"image {shown(image)} {error}"
    if reference.digest:
        return ""
    if not reference.tag:
        return f"image {shown(image)} has neither tag nor digest, so latest is pulled"
    if reference.tag == "latest":
        return f"image {shown(image)} has the tag latest, which is whatever was pushed last"
    return ""


# A cluster runs the same few hundred images again and again.
_remembered = lru_cache(maxsize=1024)(_judge)


def cel(_: NoParameters, _version: Version) -> Cel:
    volume, image = "v.image.?reference.orValue('')", "c.?image.orValue('')"
    return Cel(
        detail="name the tag of a version, or a digest",
        pod=f"variables.spec.?volumes.orValue([]).all(v, !has(v.image) || {_fine(volume)})",
        container=_fine(image),
        of_image=True,
    )


def _fine(image: str) -> str:
    return f"({image}.matches(r'{_PINNED}') && !{image}.endsWith(':latest'))"


RULE = Rule(name="no-latest-tag", level="hardened", doc=__doc__, check=check, cel=cel)
