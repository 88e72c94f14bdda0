"""An asynchronous client for what is read of registries: digests, manifests, blobs, referrers.

Sections named below are of the distribution specification, version 1.1
(https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md). Usable by itself:

    async with Registries() as registries:
        digest = await registries.resolve(parse_reference("nginx:1.27"), Keyring())
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple, Self

from yarl import URL

from batten_webhooks.images.authorization import Authorization, Request
from batten_webhooks.images.cloud import CloudCredentials
from batten_webhooks.images.cloud_sources import CloudError
from batten_webhooks.images.content import (
    MEDIA_TYPES,
    MOST_BYTES,
    MOST_CONFIGURATION_BYTES,
    OCI_INDEX,
    Configuration,
    Descriptor,
    Index,
    Manifest,
    check_digest,
    check_media_type,
    checked_digest,
    read_configuration,
    read_manifest,
)
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import ANYBODY, Credential, Keyring
from batten_webhooks.images.transport import Answer, RegistrySettings, Transport
from batten_webhooks.messages import printable
from batten_webhooks.reference import DEFAULT_REGISTRY, Reference

# Where docker.io's images are in fact.
DOCKER_HUB_HOST = "registry-1.docker.io"
# For everything that one call does, redirects and tokens included.
CALL_SECONDS = 15.0
# What a registry may answer that knows GET alone.
NO_HEAD = frozenset((400, 405, 501))
# Not let in, or shown nothing.
REFUSED, HIDDEN = frozenset((401, 403)), 404
# What came of asking: an answer, or that a token server lets nobody in.
Outcome = Answer | RegistryError
# Of what refers to one image, so much is read; a page is of 4 MiB at most.
MOST_PAGES, MOST_REFERRERS = 10, 100_000
# RFC 8288, section 3.
NEXT_LINK = re.compile(r'<([^<>]*)>\s*;[^<]*?\brel="?next\b')


class Listing(NamedTuple):
    """Manifests that refer to another one; `told` says why there may be more."""

    manifests: list[Descriptor]
    told: str = ""


class Registries:
    """Every registry that images are at. Raises RegistryError from every call, and nothing else."""

    def __init__(
        self, settings: RegistrySettings | None = None, clouds: CloudCredentials | None = None
    ) -> None:
        """Raises OSError and ssl.SSLError for files of CAs."""
        self._settings = settings or RegistrySettings()
        self._clouds = clouds or CloudCredentials()
        self._transport = Transport(self._settings)
        self._authorization = Authorization(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._clouds.close()
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

    async def tagged(self, reference: Reference, tag: str, keyring: Keyring) -> Index | Manifest:
        """What a tag names now ("Pulling manifests"), which may be a long index of referrers."""
        async with _deadline():
            answer = await self._ask("GET", reference, f"manifests/{tag}", keyring)
            _require(answer, "there is no such tag")
            return read_manifest(answer.body, _content_type(answer), MOST_REFERRERS)

    async def blob(self, reference: Reference, digest: str, keyring: Keyring, most: int) -> bytes:
        """By its digest ("Pulling blobs"), which its bytes must have; at most so many of them."""
        async with _deadline():
            path = f"blobs/{checked_digest(digest)}"
            answer = await self._ask("GET", reference, path, keyring, most)
            _require(answer, "there is no blob of this digest")
            check_digest(answer.body, digest)
            return answer.body

    async def referrers(self, reference: Reference, digest: str, keyring: Keyring) -> Listing:
        """What says of itself that it is about this digest ("Listing Referrers"): of a mirror that
        knows of any, or of the registry. Not found means that it has no such API."""
        async with _deadline():
            for mirrored in self._mirrored(reference):
                try:
                    found = await self._list(mirrored, digest, keyring)
                except RegistryError:
                    continue
                if found.manifests:
                    return found
            return await self._list(reference, digest, keyring)

    async def _list(self, reference: Reference, digest: str, keyring: Keyring) -> Listing:
        """Page by page, never on another host; a page that fails hides none before it."""
        found: list[Descriptor] = []
        url: URL | None = self._url(reference, f"referrers/{checked_digest(digest)}")
        try:
            for _ in range(MOST_PAGES):
                if url is None:
                    return Listing(found)
                request = Request("GET", url, OCI_INDEX, MOST_BYTES)
                answer = await self._ask_host(request, reference, keyring)
                _require(answer, "there is no referrers API")
                page = read_manifest(answer.body, _content_type(answer), MOST_REFERRERS)
                if not isinstance(page, Index):
                    raise RegistryError("invalid", "the registry sent no list of referrers")
                found += page.manifests
                url = _next_page(url, answer)
        except RegistryError as error:
            if not found:
                raise
            return Listing(found, str(error))
        told = f"the registry lists more than {MOST_PAGES} pages" if url else ""
        return Listing(found, told)

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
        limit = most if method == "GET" else 0
        accept = ", ".join(MEDIA_TYPES) if path.startswith("manifests/") else "*/*"
        for mirrored in self._mirrored(reference):
            try:
                request = Request(method, self._url(mirrored, path), accept, limit)
                answer = await self._ask_host(request, mirrored, keyring)
            except RegistryError:
                continue
            if answer.status == 200:
                return answer
        request = Request(method, self._url(reference, path), accept, limit)
        return await self._ask_host(request, reference, keyring)

    async def _ask_host(self, request: Request, reference: Reference, keyring: Keyring) -> Answer:
        """As each of those that the kubelet would try, until one is let in and finds it."""
        request = replace(request, scope=f"repository:{reference.repository}:pull")
        given = keyring.candidates(reference)
        if reference.registry not in self._clouds:
            return _answer(await self._ask_as(request, given or [ANYBODY]))
        if given:
            outcome = await self._ask_as(request, given)
            if isinstance(outcome, Answer) and outcome.status not in {*REFUSED, HIDDEN}:
                return outcome
        return await self._ask_cloud(request, reference.registry)

    async def _ask_as(self, request: Request, credentials: Iterable[Credential]) -> Outcome:
        """What the first one gets that is let in and finds it, else the last; but that there is
        nothing tells more than that somebody else is not let in."""
        outcome: Outcome | None = None
        for credential in credentials:
            told = await self._outcome(replace(request, credential=credential))
            if isinstance(told, Answer) and told.status not in {*REFUSED, HIDDEN}:
                return told
            hidden = isinstance(outcome, Answer) and outcome.status == HIDDEN
            outcome = outcome if hidden else told
        assert outcome is not None  # noqa: S101 - there is at least one to be tried
        return outcome

    async def _outcome(self, request: Request) -> Outcome:
        try:
            return await self._authorization.ask(request)
        except RegistryError as error:
            if error.reason != "unauthorized":
                raise
            return error

    async def _ask_cloud(self, request: Request, registry: str) -> Answer:
        """As the operator's cloud identity, then as anybody.

        What is known of an image stays so while the cloud gives no credential: that is no refusal.
        """
        whom, lacking = [ANYBODY], ""
        try:
            whom.insert(0, await self._clouds.credential(registry, self._transport))
        except CloudError as error:
            lacking = str(error)
        outcome = await self._ask_as(request, whom)
        if isinstance(outcome, Answer) and outcome.status not in {*REFUSED, HIDDEN}:
            return outcome
        if lacking:
            raise RegistryError("unavailable", f"{_told(outcome)}; {lacking}")
        if isinstance(outcome, Answer) and outcome.status == HIDDEN:
            return outcome
        raise RegistryError(
            "unauthorized", f"{_told(outcome)} and what the operator's cloud identity may read"
        )

    def _mirrored(self, reference: Reference) -> list[Reference]:
        hosts = self._settings.mirrors.get(reference.registry, ())
        return [Reference(host, reference.repository) for host in hosts]

    def _url(self, reference: Reference, path: str) -> URL:
        return self._base(reference.registry) / "v2" / reference.repository / path

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


def _answer(outcome: Outcome) -> Answer:
    """Raises RegistryError."""
    if isinstance(outcome, RegistryError):
        raise outcome
    return outcome


def _told(outcome: Outcome) -> str:
    """What a refusal says to whoever wrote the image."""
    if isinstance(outcome, RegistryError):
        return str(outcome)
    if outcome.status == HIDDEN:
        return "the registry shows nobody such an image"
    return f"the registry answers {outcome.status}: check the pull secret"


def _require(answer: Answer, missing: str) -> None:
    """Raises RegistryError for all but 200."""
    if answer.status in REFUSED:
        raise RegistryError("unauthorized", _told(answer))
    if answer.status == HIDDEN:
        raise RegistryError("not-found", f"{missing}, or not for these credentials")
    if answer.status != 200:
        raise RegistryError("invalid", f"the registry answers {answer.status}")


def _content_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip()


def _next_page(url: URL, answer: Answer) -> URL | None:
    """Raises RegistryError where that is on another host."""
    found = NEXT_LINK.search(", ".join(answer.headers.getall("Link", [])))
    if found is None:
        return None
    try:
        target = url.join(URL(found[1]))
        same = target.origin() == url.origin()
    except ValueError:
        same = False
    if not same:
        told = printable(found[1])[:200]
        raise RegistryError("refused", f"the registry's next page is at {told!r}: another host")
    return target
