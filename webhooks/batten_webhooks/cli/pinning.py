"""What `batten harden` writes into references: digests as registries tell them, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from batten_webhooks.cli.files import Place, Source, edit, images, parse, subjects
from batten_webhooks.cli.judge import Result, problem
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.pins import pinned, unpinned
from batten_webhooks.manifests import Manifest
from batten_webhooks.patch import Operation
from batten_webhooks.reference import InvalidReference, parse_reference
from batten_webhooks.rules.rule import shown
from batten_webhooks.verdict import Finding, Violation
from batten_webhooks.workload import Kind

if TYPE_CHECKING:
    from batten_webhooks.cli.registries import LookUp

Kinds = Mapping[Kind, tuple[str, ...]]
Pins = Callable[[Source, Manifest, Kinds, Result], Manifest]
Failure = RegistryError | InvalidReference
Digests = Callable[[list[str]], dict[str, str | Failure]]


def pins(how: str | None, look_up: LookUp | None) -> Pins:
    """What `--pin`, `--refresh` and `--unpin` make of a file."""
    if how == "unpin":
        return partial(_edited, _unpinned)
    if how is None or look_up is None:
        return lambda _, manifest, __, ___: manifest
    return partial(_edited, partial(_pinned, look_up=look_up.digests, refresh=how == "refresh"))


def _edited(
    change: Callable[[Sequence[Place]], dict[str, str | Failure]],
    source: Source,
    manifest: Manifest,
    kinds: Kinds,
    result: Result,
) -> Manifest:
    """The file with other references; why some stay as they are is added to the result."""
    places = images(subjects(source, manifest, kinds))
    after, lines = change(places), manifest.lines()
    patches: dict[int, list[Operation]] = {}
    for place in places:
        text = after.get(place.text, place.text)
        if isinstance(text, Exception):
            violation = _violation(place, text)
            result.problems.append(problem(source, lines, place.subject, violation))
        elif text != place.text:
            patch = patches.setdefault(place.subject.document.index, [])
            patch.append({"op": "replace", "path": place.path, "value": text})
    return parse(source, edit(source, manifest, patches)) if patches else manifest


def _unpinned(places: Sequence[Place]) -> dict[str, str | Failure]:
    result: dict[str, str | Failure] = {}
    for place in places:
        try:
            result[place.text] = unpinned(place.text)
        except InvalidReference as error:
            result[place.text] = error
    return result


def _pinned(
    places: Sequence[Place], look_up: Digests, *, refresh: bool
) -> dict[str, str | Failure]:
    wanted = [place.text for place in places if _is_wanted(place.text, refresh=refresh)]
    return {
        text: digest if isinstance(digest, Exception) else pinned(text, digest)
        for text, digest in look_up(wanted).items()
    }


def _is_wanted(text: str, *, refresh: bool) -> bool:
    """A digest without a tag is all that is known of an image: nothing newer can be looked for."""
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return True  # to be told of
    return not reference.digest or (refresh and bool(reference.tag))


def _violation(place: Place, error: Failure) -> Violation:
    if isinstance(error, RegistryError):
        detail = f"image {shown(place.text)} keeps its tag: {error}"
        remedy = "try again, or pin it by hand"
    else:
        detail = f"image {shown(place.text)} {error}"
        remedy = "name an image that a registry can look up"
    finding = Finding(path=place.pointer, container=place.container, detail=detail, remedy=remedy)
    return Violation("pinned-digest", finding, frozenset(("Deny",)), fixed=False)
