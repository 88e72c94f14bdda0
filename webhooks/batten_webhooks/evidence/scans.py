"""What was found of one image's scans, wherever it was looked for. Plain data."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from batten_webhooks.evidence.model import Document

# Why something that was found counts for nothing before it is judged.
Flaw = Literal["forged", "foreign", "too-big", "unreadable", "unavailable"]


class Platform(Struct, frozen=True):
    """One that nodes have, with the digests of its manifest and of its configuration."""

    name: str
    manifest: str
    configuration: str = ""

    @property
    def digests(self) -> frozenset[str]:
        return frozenset((self.manifest, self.configuration)) - {""}


class Found(Struct, frozen=True, eq=False):
    """`origin` names it to people: `ImageScan "web"`, `attestation sha256:…`."""

    origin: str
    document: Document


class Rejected(Struct, frozen=True):
    """`why` completes "ORIGIN …"; of what is unavailable nobody knows whether it is there."""

    origin: str
    flaw: Flaw
    why: str


class Scans(Struct, frozen=True, eq=False):
    """Of the image that is named by `digest`. `looked` are the places in words, for who is refused;
    where `error` says why nothing of the image could be learnt, the rest is empty."""

    digest: str
    platforms: tuple[Platform, ...] = ()
    found: tuple[Found, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    looked: tuple[str, ...] = ()
    error: str = ""

    @property
    def digests(self) -> frozenset[str]:
        """All that evidence of the image may be bound to."""
        return frozenset((self.digest,)).union(*(each.digests for each in self.platforms))
