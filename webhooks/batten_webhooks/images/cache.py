"""Images as they are known, each thing asked for once: digests for a while, contents for good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from batten_webhooks.images.bounded import Bounded, Weighed
from batten_webhooks.images.content import Descriptor, Index, Manifest, PlatformImage
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Keyring
from batten_webhooks.images.registry import Registries
from batten_webhooks.images.shared import Shared, failed_seconds, within
from batten_webhooks.reference import Reference

# A tag's digest is as fresh as this; for so many times as long after it is given while it is asked
# for again.
FRESH_SECONDS, STALE_TIMES = 60.0, 10
MOST_DIGESTS, MOST_CONTENTS = 10_000, 2_000
# Of contents together, as JSON; most images say a kilobyte of what is kept.
HEAVIEST_CONTENTS = 8 * 2**20
MOST_PLATFORMS = 4


# Of one namespace, whose registries may never answer: they keep nobody else from his.
AT_ONCE = 16


@dataclass(slots=True)
class _Known:
    """A digest or an error, since `at`; a digest that is old is not asked for before `again`."""

    at: float
    digest: str | None = None
    error: RegistryError | None = None
    again: float = 0.0


class Images:
    """`now` is a monotonic clock in seconds; for `fresh` of them a digest is not asked for again.

    Of an index only the platforms of `architectures` are read, where any are given: each one costs
    two requests, of which Docker Hub counts one a pull.
    """

    def __init__(
        self,
        registries: Registries,
        now: Callable[[], float] = time.monotonic,
        architectures: frozenset[str] = frozenset(),
        fresh: float = FRESH_SECONDS,
    ) -> None:
        self._registries = registries
        self._architectures = architectures
        self._fresh = fresh
        self._now = now
        self._digests = Bounded[tuple[str, str], _Known](MOST_DIGESTS)
        self._contents = Weighed[tuple[str, str, str], tuple[PlatformImage, ...]](
            MOST_CONTENTS, HEAVIEST_CONTENTS, lambda value: len(msgspec.json.encode(value))
        )
        self._failed = Bounded[tuple[str, str, str], tuple[float, RegistryError]](MOST_CONTENTS)
        self._resolving = Shared[tuple[str, str], str](AT_ONCE)
        # Each reads its platforms side by side.
        self._reading = Shared[tuple[str, str, str], tuple[PlatformImage, ...]](
            AT_ONCE // MOST_PLATFORMS
        )

    async def close(self) -> None:
        await self._resolving.close()
        await self._reading.close()

    async def digest(
        self, reference: Reference, keyring: Keyring, seconds: float, namespace: str = ""
    ) -> str:
        """What the tag names, answered within `seconds`; of a reference with a digest that one.
        `namespace` is whose lookup it is, where others' must not wait for it.

        Cached by what would be let in, not by who asks: credentials that differ share nothing.
        Raises RegistryError.
        """
        found = self.known_digest(reference, keyring)
        if isinstance(found, RegistryError):
            raise RegistryError(found.reason, str(found))
        if found is not None:
            return found
        key = _tag_key(reference, keyring)
        answer = self._resolving.answer(
            key,
            lambda: self._resolve(key, reference, keyring),
            lambda: self.known_digest(reference, keyring),
            namespace,
        )
        return await within(answer, seconds)

    def known_digest(self, reference: Reference, keyring: Keyring) -> str | RegistryError | None:
        """The same without waiting; None where it has to be asked for first.

        A digest that is old is asked for again meanwhile.
        """
        if reference.digest:
            return reference.digest
        key = _tag_key(reference, keyring)
        known, now = self._digests.get(key), self._now()
        if known is None:
            return None
        if known.error:
            return known.error if now - known.at < failed_seconds(known.error) else None
        if now - known.at >= self._fresh * (1 + STALE_TIMES):
            return None
        if now - known.at >= self._fresh and now >= known.again:
            self._resolving.ask(key, lambda: self._resolve(key, reference, keyring))
        return known.digest

    async def _resolve(self, key: tuple[str, str], reference: Reference, keyring: Keyring) -> str:
        try:
            digest = await self._registries.resolve(reference, keyring)
        except RegistryError as error:
            known = self._digests.get(key)
            # An answer that was right goes on to be given while there is none that is newer.
            lost = error.reason in {"not-found", "unauthorized", "refused"}
            if lost or known is None or known.digest is None:
                self._digests[key] = _Known(self._now(), error=error)
            else:
                known.again = self._now() + failed_seconds(error)
            raise
        self._digests[key] = _Known(self._now(), digest)
        return digest

    async def platforms(
        self,
        reference: Reference,
        digest: str,
        keyring: Keyring,
        seconds: float,
        namespace: str = "",
    ) -> tuple[PlatformImage, ...]:
        """What is in an image, for every platform that it has, within `seconds`.

        Raises RegistryError.
        """
        known = self.known_platforms(reference, digest, keyring)
        if isinstance(known, RegistryError):
            raise RegistryError(known.reason, str(known))
        if known is not None:
            return known
        key = reference.name, digest, keyring.identity(reference)
        answer = self._reading.answer(
            key,
            lambda: self._read(key, reference, digest, keyring),
            lambda: self.known_platforms(reference, digest, keyring),
            namespace,
        )
        return await within(answer, seconds)

    def known_platforms(
        self, reference: Reference, digest: str, keyring: Keyring
    ) -> tuple[PlatformImage, ...] | RegistryError | None:
        """The same without waiting; None where it has to be asked for first."""
        key = reference.name, digest, keyring.identity(reference)
        known = self._contents.get(key)
        if known is not None:
            self._contents.move_to_end(key)
            return known
        failed = self._failed.get(key)
        if failed is None or self._now() - failed[0] >= failed_seconds(failed[1]):
            return None
        return failed[1]

    async def _read(
        self, key: tuple[str, str, str], reference: Reference, digest: str, keyring: Keyring
    ) -> tuple[PlatformImage, ...]:
        try:
            found = await self._registries.manifest(reference, digest, keyring)
            if isinstance(found, Manifest):
                contents = [await self._platform(reference, digest, found, keyring)]
            else:
                contents = await self._children(reference, found, keyring)
        except RegistryError as error:
            self._failed[key] = self._now(), error
            raise
        platforms = self._contents[key] = tuple(contents)
        return platforms

    async def _children(
        self, reference: Reference, index: Index, keyring: Keyring
    ) -> list[PlatformImage]:
        async def child(digest: str) -> PlatformImage:
            manifest = await self._registries.manifest(reference, digest, keyring)
            if isinstance(manifest, Index):
                raise RegistryError("invalid", "its index holds another index")
            return await self._platform(reference, digest, manifest, keyring)

        tasks = [asyncio.ensure_future(child(each.digest)) for each in self._wanted(index)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _wanted(self, index: Index) -> list[Descriptor]:
        """All where none is of an architecture that is asked for; Windows' many versions last."""
        wanted = [
            each
            for each in sorted(index.images, key=_of_windows)
            if each.platform is not None and each.platform.architecture in self._architectures
        ]
        most = MOST_PLATFORMS if self._architectures else None
        return (wanted or index.images)[:most]

    async def _platform(
        self, reference: Reference, digest: str, manifest: Manifest, keyring: Keyring
    ) -> PlatformImage:
        configuration = await self._registries.configuration(
            reference, manifest.config.digest, keyring
        )
        return PlatformImage(
            configuration.platform, digest, manifest.size, configuration, manifest.config.digest
        )


def _of_windows(image: Descriptor) -> bool:
    return image.platform is not None and image.platform.os == "windows"


def _tag_key(reference: Reference, keyring: Keyring) -> tuple[str, str]:
    return f"{reference.name}:{reference.tag or 'latest'}", keyring.identity(reference)
