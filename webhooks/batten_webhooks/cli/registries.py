"""Registries as the command line asks them: as whoever called `docker login`, many at a time."""

from __future__ import annotations

import asyncio
import ssl
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from batten_webhooks.cli import CannotRun, command_module
from batten_webhooks.cli.files import reason
from batten_webhooks.images.cache import Images
from batten_webhooks.images.content import PlatformImage
from batten_webhooks.images.docker_config import DockerConfig, DockerConfigError, default_path
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Keyring
from batten_webhooks.images.registry import CALL_SECONDS, Registries
from batten_webhooks.images.transport import RegistrySettings, registry_settings
from batten_webhooks.reference import InvalidReference, Reference, parse_reference

if TYPE_CHECKING:
    from batten_webhooks.evidence.attestations import model

# At once; each registry gets fewer, by the client's own limits.
MOST_AT_ONCE = 32
ATTESTED_SECONDS = 60.0

T = TypeVar("T")
Contents = tuple[str, tuple[PlatformImage, ...]]
Failure = RegistryError | InvalidReference


class LookUp:
    """One command's look at registries. What was asked once is not asked again."""

    def __init__(self, options: Namespace) -> None:
        """Raises CannotRun."""
        try:
            self._docker = DockerConfig(default_path())
            self._registries = Registries(_settings(options))
        except DockerConfigError as error:
            raise CannotRun(str(error)) from None
        except ssl.SSLError:
            file = options.registry_ca
            raise CannotRun(f"--registry-ca {file}: holds no certificate in PEM") from None
        except OSError as error:
            raise CannotRun(f"--registry-ca {options.registry_ca}: {reason(error)}") from None
        architectures = frozenset(getattr(options, "architecture", ()))
        self._images = Images(self._registries, architectures=architectures)
        self._digests: dict[str, str | Failure] = {}
        self.told: set[str] = set()
        self._contents: dict[str, Contents | Failure] = {}
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self._close())
        finally:
            self._runner.close()

    async def _close(self) -> None:
        await self._images.close()
        await self._registries.close()

    def digests(self, texts: Iterable[str]) -> dict[str, str | Failure]:
        """What each reference's tag means now, whatever digest it has. Raises CannotRun."""

        async def ask(reference: Reference, keyring: Keyring) -> str:
            tagged = Reference(reference.registry, reference.repository, reference.tag)
            return await self._images.digest(tagged, keyring, CALL_SECONDS)

        return self._each(texts, ask, self._digests)

    def contents(self, texts: Iterable[str]) -> dict[str, Contents | Failure]:
        """The digest and the platforms of each reference. Raises CannotRun."""

        async def ask(reference: Reference, keyring: Keyring) -> Contents:
            digest = await self._images.digest(reference, keyring, CALL_SECONDS)
            found = await self._images.platforms(reference, digest, keyring, 4 * CALL_SECONDS)
            return digest, found

        return self._each(texts, ask, self._contents)

    def attested(
        self,
        images: Mapping[str, Contents],
        trusts: Sequence[model.Trust],
        root: Path | None = None,
    ) -> dict[str, list[model.Found] | Failure]:
        """What is beside images of these references, by each of those who are trusted.

        `root` is a file of Sigstore's trusted root. Raises CannotRun.
        """
        cache = command_module("batten_webhooks.evidence.attestations.cache")
        attestations = cache.Attestations(self._registries, root=root)

        async def ask(reference: Reference, keyring: Keyring) -> list[model.Found]:
            digest, platforms = images[str(reference)]
            own = (d for each in platforms for d in (each.digest, each.configuration_digest) if d)
            digests = tuple(dict.fromkeys((digest, *own)))
            return [
                await attestations.find(reference, digests, keyring, trust, ATTESTED_SECONDS)
                for trust in trusts
            ]

        try:
            return self._each(images, ask, {})
        finally:
            self._runner.run(attestations.close())

    def _each(
        self,
        texts: Iterable[str],
        ask: Callable[[Reference, Keyring], Awaitable[T]],
        known: dict[str, T | Failure],
    ) -> dict[str, T | Failure]:
        texts = list(dict.fromkeys(texts))
        wanted: dict[str, tuple[Reference, Keyring]] = {}
        for text in texts:
            if text in known:
                continue
            try:
                reference = parse_reference(text)
                wanted[text] = reference, self._docker.keyring(reference.registry)
            except InvalidReference as error:
                known[text] = error
            except DockerConfigError as error:
                raise CannotRun(str(error)) from None
        known |= self._runner.run(_all(wanted, ask))
        return {text: known[text] for text in texts}


async def _all(
    wanted: dict[str, tuple[Reference, Keyring]],
    ask: Callable[[Reference, Keyring], Awaitable[T]],
) -> dict[str, T | RegistryError]:
    room = asyncio.Semaphore(MOST_AT_ONCE)

    async def one(reference: Reference, keyring: Keyring) -> T | RegistryError:
        async with room:
            try:
                return await ask(reference, keyring)
            except RegistryError as error:
                return error

    answers = await asyncio.gather(*(one(*each) for each in wanted.values()))
    return dict(zip(wanted, answers, strict=True))


def _settings(options: Namespace) -> RegistrySettings:
    """Raises CannotRun."""
    try:
        return registry_settings(
            plain_http=options.plain_http,
            listed=options.local_registry,
            mirrors=options.registry_mirror,
            ca=options.registry_ca,
        )
    except ValueError as error:
        raise CannotRun(str(error)) from None
