"""Patterns of images, compared with parsed references and never with text.

    pattern := [registry "/"] segment *("/" segment) [":" tag] ["@" digest]

The registry is exact; without one it is docker.io. A segment and a tag may hold one `*`, which
stands for any characters of that segment or tag; a last segment `*` stands for everything below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from batten_webhooks.reference import (
    DEFAULT_REGISTRY,
    LEGACY_REGISTRY,
    InvalidReference,
    Reference,
    parse_reference,
    split_registry,
)

DOCKER_HUB_HOSTS = frozenset((LEGACY_REGISTRY, "registry-1.docker.io"))


class InvalidPattern(ValueError):
    """The message completes "PATTERN …"."""


@dataclass(frozen=True, slots=True)
class ImagePattern:
    text: str
    registry: str
    segments: tuple[str, ...]
    tag: str = ""
    digest: str = ""

    def matches(self, image: str, *, spelt: bool = True) -> bool:
        """A reference that cannot be read matches nothing.

        Nor does a pattern with a tag match a reference with a digest, unless it gives that, too:
        what runs then is the digest, whatever the tag says. Unless the registry has to be `spelt`
        alike, its other names match, too: that is for what is forbidden, never for what is let in.
        """
        try:
            reference = parse_reference(image)
        except InvalidReference:
            return False
        own, other = self.registry, reference.registry
        return (
            (own == other or (not spelt and _plain(own) == _plain(other)))
            and self._matches_version(reference)
            and self._matches_repository(reference.repository.split("/"))
        )

    def _matches_version(self, reference: Reference) -> bool:
        if self.digest:
            return reference.digest == self.digest
        if not self.tag:
            return True
        return not reference.digest and _fits(self.tag, reference.tag or "latest")

    def _matches_repository(self, parts: list[str]) -> bool:
        *first, last = self.segments
        if last == "*":
            fits = len(parts) > len(first)
        else:
            fits = len(parts) == len(self.segments) and _fits(last, parts[-1])
        return fits and all(map(_fits, first, parts))


def parse_pattern(text: str) -> ImagePattern:
    """Raises InvalidPattern."""
    if text.strip("*/:") == "":
        raise InvalidPattern("stands for every image: say which")
    if any(part.count("*") > 1 for part in re.split("[/:@]", text)):
        raise InvalidPattern("has more than one * between slashes")
    registry, remainder = split_registry(text)
    if "*" in registry:
        raise InvalidPattern("has a * in the registry, which must be exact")
    try:
        # A letter is legal wherever a * may stand.
        reference = parse_reference(text.replace("*", "x"))
    except InvalidReference as error:
        raise InvalidPattern(f"{error}") from None
    repository, _, tag = remainder.partition("@")[0].partition(":")
    segments = tuple(repository.split("/"))
    if registry == DEFAULT_REGISTRY and segments[1:] == () and segments != ("*",):
        segments = ("library", *segments)
    return ImagePattern(text, registry, segments, tag, reference.digest)


def _plain(registry: str) -> str:
    """One spelling for those that lead to one registry: hosts have no case, and HTTPS a port."""
    host = re.sub(":0*443$", "", registry.lower())
    return DEFAULT_REGISTRY if host in DOCKER_HUB_HOSTS else host


def _fits(pattern: str, text: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == text
    return (
        len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)
    )
