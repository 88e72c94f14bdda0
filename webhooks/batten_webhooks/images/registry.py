"""An asynchronous client for what is read of registries: digests, manifests and configurations.

Sections named below are of the distribution specification, version 1.1
(https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md). Usable by itself:

    async with Registries() as registries:
        digest = await registries.resolve(parse_reference("nginx:1.27"), Keyring())
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from yarl import URL

from batten_webhooks.images.authorization import Authorization, Request
from batten_webhooks.images.content import (
    MEDIA_TYPES,
    MOST_BYTES,
    MOST_CONFIGURATION_BYTES,
    Configuration,
    Index,
    Manifest,
    check_digest,
    check_media_type,
    checked_digest,
    read_configuration,
    read_manifest,
)
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Credential, Keyring
from batten_webhooks.images.transport import Answer, RegistrySettings, Transport
from batten_webhooks.reference import DEFAULT_REGISTRY, Reference

# Where docker.io's images are in fact.
DOCKER_HUB_HOST = "registry-1.docker.io"
# For everything that one call does, redirects and tokens included.
CALL_SECONDS = 15.0
# What a registry may answer that knows GET alone.
NO_HEAD = frozenset((400, 405, 501))
ANYBODY = Credential()


class Registries:
    """Every registry that images are at. Raises RegistryError from every call, and nothing else."""

    def __init__(self, settings: RegistrySettings | None = None) -> None:
        """Raises OSError and ssl.SSLError for files of CAs."""
        self._settings = settings or RegistrySettings()
        self._transport = Transport(self._settings)
        self._authorization = Authorization(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.close()

    # --- what is asked --------------------------------------------------------------------------

    async def resolve(self, reference: Reference, keyring: Keyring) -> str:
        """The digest of the manifest or index that a tag names ("Checking if content exists in the
        registry"); by HEAD, which registries count as no pull, or else of the bytes themselves."""
        wanted = reference.digest or reference.tag or "latest"
        async with _deadline():
            answer = await self._ask("HEAD", reference, f"manifests/{wanted}", keyring)
            if answer.status not in NO_HEAD:
                _require(answer, "there is no such tag")
                check_media_type(_content_type(answer))
            if answer.status == 200 and "Docker-Content-Digest" in answer.headers:
                return checked_digest(answer.headers["Docker-Content-Digest"])
            answer = await self._ask("GET", reference, f"manifests/{wanted}", keyring)
            _require(answer, "there is no such tag")
            read_manifest(answer.body, _content_type(answer))
            return f"sha256:{hashlib.sha256(answer.body).hexdigest()}"

    async def manifest(
        self, reference: Reference, digest: str, keyring: Keyring
    ) -> Index | Manifest:
        """By its digest ("Pulling manifests"), which its bytes must have."""
        async with _deadline():
            path = f"manifests/{checked_digest(digest)}"
            answer = await self._ask("GET", reference, path, keyring)
            _require(answer, "there is no manifest of this digest")
            check_digest(answer.body, digest)
            return read_manifest(answer.body, _content_type(answer))

    async def configuration(
        self, reference: Reference, digest: str, keyring: Keyring
    ) -> Configuration:
        """By its digest ("Pulling blobs"), which its bytes must have."""
        async with _deadline():
            path = f"blobs/{checked_digest(digest)}"
            answer = await self._ask("GET", reference, path, keyring, MOST_CONFIGURATION_BYTES)
            _require(answer, "there is no configuration of this digest")
            check_digest(answer.body, digest)
            return read_configuration(answer.body)

    # --- where and as whom ----------------------------------------------------------------------

    async def _ask(
        self,
        method: str,
        reference: Reference,
        path: str,
        keyring: Keyring,
        most: int = MOST_BYTES,
    ) -> Answer:
        """The first good answer of a mirror or the registry itself, else the registry's own."""
        for host in self._settings.mirrors.get(reference.registry, ()):
            try:
                mirrored = Reference(host, reference.repository)
                answer = await self._ask_host(method, mirrored, path, keyring, most)
            except RegistryError:
                continue
            if answer.status == 200:
                return answer
        return await self._ask_host(method, reference, path, keyring, most)

    async def _ask_host(
        self, method: str, reference: Reference, path: str, keyring: Keyring, most: int
    ) -> Answer:
        """As each of those that the kubelet would try, until one is let in and finds it."""
        url = self._base(reference.registry) / "v2" / reference.repository / path
        scope = f"repository:{reference.repository}:pull"
        accept = ", ".join(MEDIA_TYPES) if path.startswith("manifests/") else "*/*"
        limit = most if method == "GET" else 0
        answer: Answer | None = None
        for credential in keyring.candidates(reference) or [ANYBODY]:
            request = Request(method, url, scope, credential, accept, limit)
            answer = await self._authorization.ask(request)
            if answer.status not in {401, 403, 404}:
                break
        assert answer is not None  # noqa: S101 - there is at least one to be tried
        return answer

    def _base(self, registry: str) -> URL:
        host = DOCKER_HUB_HOST if registry == DEFAULT_REGISTRY else registry
        scheme = "http" if registry in self._settings.plain_http else "https"
        return URL(f"{scheme}://{host}")


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield
    except TimeoutError:
        raise RegistryError("timeout", f"the registry took more than {CALL_SECONDS:g} s") from None


def _require(answer: Answer, missing: str) -> None:
    """Raises RegistryError for all but 200."""
    if answer.status in {401, 403}:
        raise RegistryError(
            "unauthorized", f"the registry answers {answer.status}: check the pull secret"
        )
    if answer.status == 404:
        raise RegistryError("not-found", f"{missing}, or not for these credentials")
    if answer.status != 200:
        raise RegistryError("invalid", f"the registry answers {answer.status}")


def _content_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip()
