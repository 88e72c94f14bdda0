"""Where attestations are beside an image: three places, of which none hides what is in another.

1. The referrers API of the distribution specification 1.1 ("Listing Referrers"),
2. where that is missing or knows of nothing, the tag `sha256-DIGITS` ("Referrers Tag Schema"),
3. the tag `sha256-DIGITS.att`, to which cosign 2 adds a layer for each attestation.

What lists say of artifacts is not believed, as cosign 3 writes a wrong artifactType into its own:
each manifest is read, by its digest, and says itself what it is about and of which kind its layers
are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple, TypeVar

from batten_webhooks.evidence.attestations.model import Attached, Candidate, short
from batten_webhooks.evidence.model import MOST_BYTES
from batten_webhooks.images.content import Descriptor, Index, Manifest
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Keyring
from batten_webhooks.images.registry import Registries
from batten_webhooks.reference import Reference

KINDS = frozenset(
    ("application/vnd.dsse.envelope.v1+json", "application/vnd.dev.sigstore.bundle.v0.3+json")
)
CREATED = "org.opencontainers.image.created"
# Of one image; what is more is told of and not read.
MOST_CANDIDATES, MOST_TOGETHER = 50, 4 * MOST_BYTES
# For what lists and tags say, and as long again for what they name.
SECONDS_FOR_LISTS = 10.0
# Others ask the same registry meanwhile.
AT_ONCE = 4
MOST_TOLD = 20

T = TypeVar("T")


class _Beside(NamedTuple):
    """A manifest or a blob that was found beside `subject`, made at `created`, "" for not told."""

    subject: str
    content: Descriptor
    created: str


async def attached(
    registries: Registries, reference: Reference, digests: Sequence[str], keyring: Keyring
) -> Attached:
    """What may be attestations of an image, beside any of its `digests`: the index's and those of
    its platforms' manifests. Raises RegistryError only where nothing could be asked at all."""
    search = _Search(registries, reference, keyring)
    tagged, listed = await asyncio.gather(
        asyncio.gather(*map(search.tagged, digests)),
        asyncio.gather(*map(search.referrers, digests)),
    )
    if search.failed and not search.answered:
        raise search.failed[0]
    search.until += SECONDS_FOR_LISTS
    manifests = search.chosen(_in_turn(listed))
    layers = [
        each for found in await asyncio.gather(*map(search.layers, manifests)) for each in found
    ]
    blobs = search.affordable(_in_turn([_newest_first(layers), *tagged]))
    read = await asyncio.gather(*map(search.candidate, blobs))
    candidates = tuple(each for each in read if each is not None)
    return Attached(candidates, search.sentences(), failed=bool(search.failed))


class _Search:
    """One image's, until a deadline. What fails is told, and the rest goes on."""

    def __init__(self, registries: Registries, reference: Reference, keyring: Keyring) -> None:
        self._registries = registries
        self._reference = reference
        self._keyring = keyring
        self.until = asyncio.get_running_loop().time() + SECONDS_FOR_LISTS
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._told: list[str] = []
        self.failed: list[RegistryError] = []
        self.answered = False

    async def referrers(self, digest: str) -> list[_Beside]:
        """Manifests that are listed for a digest, by the API or else under the tag."""
        what = f"the referrers of {short(digest)}"
        listing = await self._ask(
            what,
            lambda: self._registries.referrers(self._reference, digest, self._keyring),
            optional=True,
            says=False,  # without the API some answer so whoever asks
        )
        if listing is not None and listing.told:
            self._told.append(f"{what}: {listing.told}")
        manifests = listing.manifests if listing is not None else []
        if not manifests:
            index = await self._tag(_tag(digest))
            manifests = index.manifests if isinstance(index, Index) else []
        found = [_Beside(digest, each, _created(each.annotations)) for each in reversed(manifests)]
        return sorted(
            _newest_first(found), key=lambda each: each.content.artifact_type not in KINDS
        )

    async def tagged(self, digest: str) -> list[_Beside]:
        """Blobs under cosign 2's tag, the last one added first."""
        manifest = await self._tag(f"{_tag(digest)}.att")
        return _layers(digest, manifest)[::-1] if isinstance(manifest, Manifest) else []

    async def layers(self, listed: _Beside) -> list[_Beside]:
        """The blobs of a manifest that is about what it is listed for."""
        what = f"artifact {short(listed.content.digest)}"
        manifest = await self._ask(
            what,
            lambda: self._registries.manifest(
                self._reference, listed.content.digest, self._keyring
            ),
        )
        if not isinstance(manifest, Manifest):
            return []
        if manifest.subject is None or manifest.subject.digest != listed.subject:
            self._told.append(f"{what} is listed for {short(listed.subject)} and is not about it")
            return []
        return _layers(listed.subject, manifest)

    async def candidate(self, layer: _Beside) -> Candidate | None:
        digest, size = layer.content.digest, layer.content.size
        data = await self._ask(
            f"attestation {short(digest)}",
            lambda: self._registries.blob(self._reference, digest, self._keyring, size),
        )
        return None if data is None else Candidate(digest, layer.subject, data)

    def chosen(self, manifests: Iterable[_Beside]) -> list[_Beside]:
        """As many as are read."""
        found = _once(manifests)
        self._tell_left(len(found) - MOST_CANDIDATES)
        return found[:MOST_CANDIDATES]

    def affordable(self, layers: Iterable[_Beside]) -> list[_Beside]:
        """As many as are read, by the sizes that their manifests say, which are not exceeded."""
        chosen: list[_Beside] = []
        total = left = 0
        for each in _once(layers):
            size = each.content.size
            if not 0 < size <= MOST_BYTES:
                told = f"is of {size} bytes: none, or more than {MOST_BYTES}, are not read"
                self._told.append(f"attestation {short(each.content.digest)} {told}")
            elif len(chosen) == MOST_CANDIDATES or total + size > MOST_TOGETHER:
                left += 1
            else:
                chosen.append(each)
                total += size
        self._tell_left(left)
        return chosen

    def sentences(self) -> tuple[str, ...]:
        told = list(dict.fromkeys(self._told))
        more = len(told) - MOST_TOLD
        return (*told[:MOST_TOLD], *([f"and {more} more"] if more > 0 else []))

    def _tell_left(self, count: int) -> None:
        if count > 0:
            most = f"{MOST_CANDIDATES} of one image, of {MOST_TOGETHER} bytes together"
            self._told.append(f"{count} more attestations are not read: at most {most}")

    async def _tag(self, tag: str) -> Index | Manifest | None:
        return await self._ask(
            f"tag {tag}",
            lambda: self._registries.tagged(self._reference, tag, self._keyring),
            optional=True,
        )

    async def _ask(
        self,
        what: str,
        call: Callable[[], Awaitable[T]],
        *,
        optional: bool = False,
        says: bool = True,
    ) -> T | None:
        """None where it failed, or is missing and `optional`; `says` whether that is an answer."""
        try:
            async with asyncio.timeout_at(self.until), self._turns:
                found = await call()
        except RegistryError as error:
            if optional and error.reason == "not-found":
                self.answered |= says
                return None
            failed = error
        except TimeoutError:
            failed = RegistryError("timeout", "the registry took too long")
        else:
            self.answered = True
            return found
        self.failed.append(failed)
        self._told.append(f"{what}: {failed}")
        return None


def _tag(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm}-{digits[:64]}"


def _layers(subject: str, manifest: Manifest) -> list[_Beside]:
    created = _created(manifest.annotations)
    return [
        _Beside(subject, layer, created)
        for layer in manifest.layers or ()
        if layer.media_type in KINDS
    ]


def _created(annotations: Mapping[str, str] | None) -> str:
    return (annotations or {}).get(CREATED, "")


def _newest_first(found: Iterable[_Beside]) -> list[_Beside]:
    return sorted(found, key=lambda each: each.created, reverse=True)


def _in_turn(lists: Iterable[Sequence[_Beside]]) -> list[_Beside]:
    """The first of each, the second of each: a long list leaves the others their part."""
    return [each for row in zip_longest(*lists) for each in row if each is not None]


def _once(found: Iterable[_Beside]) -> list[_Beside]:
    first: dict[tuple[str, str], _Beside] = {}
    for each in found:
        first.setdefault((each.subject, each.content.digest), each)
    return list(first.values())
