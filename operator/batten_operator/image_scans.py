"""What is known of the scans of images: what the cluster holds, and what is beside the images.

A warm answer costs no call, and is the same object again, so that its judgement is remembered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from batten_operator.stored_scans import StoredScans
from batten_webhooks.evidence.attestations.cache import Attestations
from batten_webhooks.evidence.attestations.model import Found
from batten_webhooks.evidence.attested import outcomes, trusts
from batten_webhooks.evidence.collect import Outcome, collect
from batten_webhooks.evidence.model import ScanEvidence
from batten_webhooks.evidence.scans import Rejected, Scans
from batten_webhooks.images.bounded import Weighed
from batten_webhooks.images.cache import Images
from batten_webhooks.images.content import PlatformImage
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Keyring
from batten_webhooks.inquiry import Inquiry
from batten_webhooks.reference import Reference
from batten_webhooks.rules.rule import Missing
from batten_webhooks.rules.scanned_image import Source

# Images, and what was found of them all: of one there may be an attestation for each night.
MOST, MOST_HELD = 4_000, 400_000
BESIDE = "what is beside the image"

Platforms = tuple[PlatformImage, ...]
Digests = Mapping[str, str | Missing]
Beside = Found | RegistryError


@dataclass(frozen=True, slots=True)
class _Collected:
    """`made_of` tells whether it would be the same again."""

    made_of: tuple[object, ...]
    scans: Scans


@dataclass
class ImageScans:
    images: Images
    stored: StoredScans
    attestations: Attestations

    def __post_init__(self) -> None:
        self._collected = Weighed[tuple[str, str, tuple[Source, ...]], _Collected](
            MOST, MOST_HELD, lambda each: _weight(each.scans)
        )

    def known(
        self, inquiry: Inquiry, digests: Digests, keyring: Keyring
    ) -> dict[str, Scans] | None:
        """By the references that are asked about; None where anything has to be asked for."""
        found: dict[str, Scans] = {}
        for text, reference in inquiry.scan.items():
            scans = self._known(reference, digests.get(text), keyring, inquiry.sources)
            if scans is None:
                return None
            found[text] = scans
        return found

    def _known(
        self,
        reference: Reference,
        digest: str | Missing | None,
        keyring: Keyring,
        sources: tuple[Source, ...],
    ) -> Scans | None:
        resolved = digest or self.images.known_digest(reference, keyring)
        if not isinstance(resolved, str):
            return None if resolved is None else _unlooked(resolved)
        platforms = self.images.known_platforms(reference, resolved, keyring)
        if not isinstance(platforms, tuple):
            return None if platforms is None else _unlooked(platforms)
        beside: list[Beside] = []
        for trust in trusts(sources):
            found = self.attestations.known(
                reference, _digests(resolved, platforms), keyring, trust
            )
            if found is None:
                return None
            beside.append(found)
        return self._collect(reference, resolved, platforms, sources, beside)

    async def look(
        self, inquiry: Inquiry, digests: Digests, keyring: Keyring, deadline: float
    ) -> dict[str, Scans]:
        """The same, asked for by `deadline`, of time.monotonic()."""

        async def one(text: str, reference: Reference) -> Scans:
            known = digests.get(text)
            if isinstance(known, Missing):
                return _unlooked(known)
            try:
                digest = known or await self.images.digest(
                    reference, keyring, _left(deadline), inquiry.namespace
                )
                platforms = await self.images.platforms(
                    reference, digest, keyring, _left(deadline), inquiry.namespace
                )
            except RegistryError as error:
                return _unlooked(error)
            wanted = _digests(digest, platforms)
            beside: list[Beside] = []
            for trust in trusts(inquiry.sources):
                try:
                    beside.append(
                        await self.attestations.find(
                            reference, wanted, keyring, trust, _left(deadline)
                        )
                    )
                except RegistryError as error:
                    beside.append(error)
            return self._collect(reference, digest, platforms, inquiry.sources, beside)

        found = await asyncio.gather(*(one(*each) for each in inquiry.scan.items()))
        return dict(zip(inquiry.scan, found, strict=True))

    def _collect(
        self,
        reference: Reference,
        digest: str,
        platforms: Platforms,
        sources: tuple[Source, ...],
        beside: list[Beside],
    ) -> Scans:
        key = reference.name, digest, sources
        mine = _digests(digest, platforms)
        made_of = (self.stored.version(mine), platforms, *map(_marks, beside))
        known = self._collected.get(key)
        if known is not None and known.made_of == made_of:
            return known.scans
        stored = self.stored.of(mine, sources)
        scans = collect(digest, platforms, sources, stored, _outcomes(beside))
        self._collected[key] = _Collected(made_of, scans)
        return scans


def _unlooked(why: RegistryError | Missing) -> Scans:
    """Nothing can be known of the scans of what is not known itself."""
    told = why.why if isinstance(why, Missing) else str(why)
    return Scans("", error=f"which image it is cannot be known: {told}")


def _digests(digest: str, platforms: Platforms) -> tuple[str, ...]:
    """All that scans of the image may be bound to."""
    own = (each for one in platforms for each in (one.digest, one.configuration_digest) if each)
    return tuple(dict.fromkeys((digest, *own)))


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _marks(beside: Beside) -> tuple[str, ...]:
    """What tells one answer from another."""
    if isinstance(beside, RegistryError):
        return (str(beside),)
    rejected = (str(each) for each in beside.rejected)
    return (*(each.digest for each in beside.verified), "", *rejected, "", *beside.told)


def _weight(scans: Scans) -> int:
    """What was found, and what is said of it."""
    documents = (each.document for each in scans.found)
    return sum(
        len(each.statements) + (len(each.vulnerabilities) if isinstance(each, ScanEvidence) else 0)
        for each in documents
    )


def _outcomes(beside: Iterable[Beside]) -> list[Outcome]:
    """One that cannot be read hides none that can."""
    errors = [each for each in beside if isinstance(each, RegistryError)]
    found = [each for each in beside if isinstance(each, Found)]
    unread = [Rejected(BESIDE, "unavailable", f"cannot be read: {each}") for each in errors]
    return [*outcomes(*found), *dict.fromkeys(unread)]
