"""An asynchronous client for what is read of registries: digests, manifests and configurations.

Sections named below are of the distribution specification, version 1.1
(https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md); tokens are fetched as in
https://distribution.github.io/distribution/spec/auth/token/. Usable by itself:

    async with Registries() as registries:
        digest = await registries.resolve(parse_reference("nginx:1.27"), Keyring())
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from msgspec import Struct
from yarl import URL

from batten_webhooks.images.addresses import (
    GuardedResolver,
    RefusedAddress,
    forbidden,
    is_address,
    is_listed,
)
from batten_webhooks.images.challenge import Challenge, read_challenges
from batten_webhooks.images.content import (
    MEDIA_TYPES,
    MOST_BYTES,
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
from batten_webhooks.images.limits import PAUSE_SECONDS, Circuits, retry_after
from batten_webhooks.messages import printable
from batten_webhooks.reference import DEFAULT_REGISTRY, Reference

# Where docker.io's images are in fact.
DOCKER_HUB_HOST = "registry-1.docker.io"
# For everything that one call does, redirects and tokens included, and for each exchange of it.
CALL_SECONDS, EXCHANGE_SECONDS, CONNECT_SECONDS = 15.0, 8.0, 4.0
MOST_REDIRECTS = 5
# What a registry may answer that knows GET alone.
NO_HEAD = frozenset((400, 405, 501))
MOST_TOKEN_BYTES = 2**20
MOST_CONNECTIONS, MOST_CONNECTIONS_PER_HOST = 64, 8
MOST_REMEMBERED = 1_000
# "If the field is omitted, this defaults to 60 seconds" (token authentication, "Token Response
# Fields"); of what a token lasts a part is left, so that none ends on its way.
TOKEN_SECONDS, TOKEN_PART = 60.0, 0.8
ANYBODY = Credential()

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Hosts are HOST or HOST:PORT, as in references.

    `plain_http` are those that are asked without TLS; they and `listed` may be at any address, also
    of this machine. `certificates` are files of CAs, in PEM, of a host ("" for all of them)
    besides the system's. `mirrors` are asked in their order before the host itself.
    """

    plain_http: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()
    certificates: Mapping[str, Path] = field(default_factory=dict)
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class _Token(Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


class _Bounded(OrderedDict[K, V]):
    """Forgets what was put in first."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        while len(self) > MOST_REMEMBERED:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Request:
    """`limit` is how many bytes of the answer are read."""

    method: str
    url: URL
    scope: str
    credential: Credential
    accept: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Registries:
    """Every registry that images are at. Raises RegistryError from every call, and nothing else."""

    def __init__(self, settings: RegistrySettings = RegistrySettings()) -> None:
        self._settings = settings
        self._listed = settings.listed | settings.plain_http
        self._circuits = Circuits()
        self._meeting = _Bounded[str, asyncio.Lock]()
        self._met = _Bounded[str, bool]()
        self._challenges = _Bounded[str, Challenge]()
        self._tokens = _Bounded[tuple[str, str, str, str, str], tuple[str, float]]()
        self._tls = {host: _context(file) for host, file in settings.certificates.items()}
        self._opened: ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

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
            answer = await self._ask("GET", reference, path, keyring)
            _require(answer, "there is no configuration of this digest")
            check_digest(answer.body, digest)
            return read_configuration(answer.body)

    # --- where and as whom ----------------------------------------------------------------------

    async def _ask(self, method: str, reference: Reference, path: str, keyring: Keyring) -> _Answer:
        """The first good answer of a mirror or the registry itself, else the registry's own."""
        for host in self._settings.mirrors.get(reference.registry, ()):
            try:
                mirrored = Reference(host, reference.repository)
                answer = await self._ask_host(method, mirrored, path, keyring)
            except RegistryError:
                continue
            if answer.status == 200:
                return answer
        return await self._ask_host(method, reference, path, keyring)

    async def _ask_host(
        self, method: str, reference: Reference, path: str, keyring: Keyring
    ) -> _Answer:
        """As each of those that the kubelet would try, until one is let in and finds it."""
        url = self._base(reference.registry) / "v2" / reference.repository / path
        scope = f"repository:{reference.repository}:pull"
        accept = ", ".join(MEDIA_TYPES) if path.startswith("manifests/") else "*/*"
        limit = MOST_BYTES if method == "GET" else 0
        answer: _Answer | None = None
        for credential in keyring.candidates(reference) or [ANYBODY]:
            request = _Request(method, url, scope, credential, accept, limit)
            answer = await self._introduced(request)
            if answer.status not in {401, 403, 404}:
                break
        assert answer is not None  # noqa: S101 - there is at least one to be tried
        return answer

    def _base(self, registry: str) -> URL:
        host = DOCKER_HUB_HOST if registry == DEFAULT_REGISTRY else registry
        scheme = "http" if registry in self._settings.plain_http else "https"
        return URL(f"{scheme}://{host}")

    async def _introduced(self, request: _Request) -> _Answer:
        """Whoever asks a host first learns what it asks for; the others wait for that once."""
        host = request.url.authority
        if host not in self._met:
            async with self._meeting.setdefault(host, asyncio.Lock()):
                if host not in self._met:
                    try:
                        return await self._authorized(request)
                    finally:
                        self._met[host] = True
        return await self._authorized(request)

    async def _authorized(self, request: _Request) -> _Answer:
        """With what the registry asked for the last time, or asks for now. A token that is refused
        is fetched again once."""
        host = request.url.authority
        known = self._challenges.get(host)
        for fresh in (False, True):
            headers = await self._authorization(request, known, fresh=fresh)
            answer = await self._follow(request, headers)
            if answer.status != 401:
                return answer
            asked = _wanted(answer, request.credential)
            if asked is None:
                break
            self._challenges[host] = known = asked
        return answer

    async def _authorization(
        self, request: _Request, challenge: Challenge | None, *, fresh: bool
    ) -> dict[str, str]:
        if challenge is None:
            return {}
        credential = request.credential
        if challenge.scheme == "basic":
            if not credential.username:
                return {}
            return {"Authorization": _basic(credential)}
        return {"Authorization": f"Bearer {await self._token(request, challenge, fresh=fresh)}"}

    async def _token(self, request: _Request, challenge: Challenge, *, fresh: bool) -> str:
        realm, service = (
            challenge.parameters.get("realm", ""),
            challenge.parameters.get("service", ""),
        )
        credential = request.credential
        key = (request.url.authority, realm, service, request.scope, credential.identity)
        known, ends = self._tokens.get(key, ("", 0.0))
        if known and not fresh and time.monotonic() < ends:
            return known
        answer = await self._fetch_token(request, realm, service)
        try:
            told = msgspec.json.decode(answer.body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RegistryError("invalid", "the registry's token server sent no token") from None
        token = told.token or told.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise RegistryError("invalid", "the registry's token server sent no token")
        lasts = TOKEN_SECONDS if told.expires_in is None else told.expires_in
        self._tokens[key] = token, time.monotonic() + TOKEN_PART * lasts
        return token

    async def _fetch_token(self, request: _Request, realm: str, service: str) -> _Answer:
        credential = request.credential
        url = self._realm(request.url, realm)
        headers: dict[str, str] = {}
        fields = {"service": service, "scope": request.scope}
        form = None
        if credential.identity_token:
            form = fields | {
                "grant_type": "refresh_token",
                "refresh_token": credential.identity_token,
                "client_id": "batten",
            }
        else:
            url = url.update_query(fields)
            if credential.username:
                headers["Authorization"] = _basic(credential)
        method = "POST" if form else "GET"
        answer = await self._exchange(method, url, headers, MOST_TOKEN_BYTES, form)
        if answer.status in {400, 401, 403}:
            whom = f"user {printable(credential.username)!r}" if credential.username else "anybody"
            message = f"the registry's token server lets {whom} not pull: check the pull secret"
            raise RegistryError("unauthorized", message)
        _require(answer, "the registry's token server is not there")
        return answer

    def _realm(self, registry: URL, realm: str) -> URL:
        """A token server with TLS, unless the registry has none itself."""
        try:
            url = URL(realm)
            secure = url.scheme == "https" or (url.scheme == registry.scheme == "http")
        except ValueError:
            secure = False
        if not secure or not url.host:
            told = printable(realm)[:200]
            raise RegistryError("refused", f"the registry's token server is at {told!r}: no https")
        return url

    # --- one exchange ---------------------------------------------------------------------------

    async def _follow(self, request: _Request, headers: dict[str, str]) -> _Answer:
        """Through redirects, without the credentials where they lead to another host."""
        url, sent = request.url, {"Accept": request.accept, **headers}
        for _ in range(MOST_REDIRECTS + 1):
            answer = await self._exchange(request.method, url, sent, request.limit)
            if answer.status not in {301, 302, 303, 307, 308}:
                return answer
            target = _location(url, answer.headers.get("Location", ""))
            if target.origin() != url.origin():
                sent.pop("Authorization", None)
            url = target
        raise RegistryError("invalid", f"it redirects more than {MOST_REDIRECTS} times")

    async def _exchange(
        self,
        method: str,
        url: URL,
        headers: dict[str, str],
        limit: int,
        form: dict[str, str] | None = None,
    ) -> _Answer:
        host = url.authority
        self._circuits.check(host)
        try:
            async with self._sent(method, url, headers, form) as response:
                answer = _Answer(response.status, response.headers, await _read(response, limit))
        except RegistryError as error:
            if error.reason in {"timeout", "unavailable"}:
                self._circuits.failed(host, error)
            raise
        unserved = _unserved(host, answer)
        if unserved is not None:
            self._circuits.failed(host, unserved)
            raise unserved
        self._circuits.answered(host)
        return answer

    @asynccontextmanager
    async def _sent(
        self, method: str, url: URL, headers: dict[str, str], form: dict[str, str] | None
    ) -> AsyncIterator[ClientResponse]:
        self._check_literal(url)
        host, told = url.host or "", f"registry {printable(url.authority)}"
        tls = self._tls.get(url.authority) or self._tls.get(host) or self._tls.get("")
        try:
            async with self._session().request(
                method, url, headers=headers, data=form, ssl=tls or True, allow_redirects=False
            ) as response:
                yield response
        except RefusedAddress as error:
            raise RegistryError("refused", f"{told} {error}") from None
        except ClientConnectorCertificateError as error:
            raise RegistryError("unavailable", f"{told} {_untrusted(error)}") from None
        except ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddress):
                raise RegistryError("refused", f"{told} {error.os_error}") from None
            raise RegistryError("unavailable", f"{told} {_unreached(error)}") from None
        except TimeoutError:
            raise RegistryError("timeout", f"{told} does not answer") from None
        except (ClientError, OSError, ValueError) as error:
            reason = printable(str(error) or type(error).__name__)[:200]
            raise RegistryError("unavailable", f"{told}: the connection broke: {reason}") from None

    def _check_literal(self, url: URL) -> None:
        """An address that stands in the URL is resolved by nobody."""
        host = url.host or ""
        if is_address(host) and not is_listed(self._listed, host, url.port):
            told = forbidden(host)
            if told:
                raise RegistryError(
                    "refused", f"registry {url.authority} is {told}: not asked unless listed"
                )

    def _session(self) -> ClientSession:
        if self._opened is None:
            self._opened = ClientSession(
                connector=TCPConnector(
                    resolver=GuardedResolver(self._listed),
                    limit=MOST_CONNECTIONS,
                    limit_per_host=MOST_CONNECTIONS_PER_HOST,
                ),
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=EXCHANGE_SECONDS, sock_connect=CONNECT_SECONDS),
                headers={"User-Agent": "batten", "Accept-Encoding": "identity"},
                auto_decompress=False,
            )
        return self._opened


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield
    except TimeoutError:
        raise RegistryError("timeout", f"the registry took more than {CALL_SECONDS:g} s") from None


async def _read(response: ClientResponse, limit: int) -> bytes:
    """Raises RegistryError where there is more than `limit`; of an error no more is of interest."""
    body = bytearray()
    if limit == 0 or response.status != 200:
        return b""
    async for chunk in response.content.iter_chunked(2**16):
        body += chunk
        if len(body) > limit:
            raise RegistryError("invalid", f"the registry sent more than {limit} bytes")
    return bytes(body)


def _unserved(host: str, answer: _Answer) -> RegistryError | None:
    name = f"registry {printable(host)}"
    asked = answer.headers.get("Retry-After")
    if answer.status == 429:
        seconds = retry_after(asked) if asked else PAUSE_SECONDS
        return RegistryError("rate-limited", f"{name} is asked too often (429)", seconds)
    if answer.status >= 500:
        seconds = retry_after(asked) if asked else 0.0
        return RegistryError("unavailable", f"{name} answers {answer.status}", seconds)
    return None


def _unreached(error: ClientConnectorError) -> str:
    number, reason = error.os_error.errno or 0, error.os_error.strerror or ""
    # asyncio writes addresses into the reason; those of getaddrinfo are below zero.
    reason = os.strerror(number) if number > 0 else reason
    return f"cannot be reached: {printable(reason).lower() or 'no connection'}"


def _untrusted(error: ClientConnectorCertificateError) -> str:
    reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
    return f"has a certificate that is not trusted: {printable(str(reason))}"


def _require(answer: _Answer, missing: str) -> None:
    """Raises RegistryError for all but 200."""
    if answer.status in {401, 403}:
        raise RegistryError(
            "unauthorized", f"the registry answers {answer.status}: check the pull secret"
        )
    if answer.status == 404:
        raise RegistryError("not-found", f"{missing}, or not for these credentials")
    if answer.status != 200:
        raise RegistryError("invalid", f"the registry answers {answer.status}")


def _wanted(answer: _Answer, credential: Credential) -> Challenge | None:
    """Of what is asked for, what we can give: a token before a password."""
    headers: Any = answer.headers
    challenges = read_challenges(headers.getall("WWW-Authenticate", []))
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme and (scheme == "bearer" or credential.username):
                return challenge
    return None


def _basic(credential: Credential) -> str:
    """RFC 7617; BasicAuth of aiohttp takes no user with a colon, and raises."""
    pair = f"{credential.username}:{credential.password}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def _content_type(answer: _Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip()


def _location(url: URL, location: str) -> URL:
    """Where a redirect leads to. Raises RegistryError where that is nowhere, or gives up TLS."""
    try:
        target = url.join(URL(location))
        allowed = target.scheme == "https" or target.scheme == url.scheme == "http"
    except ValueError:
        allowed = False
    if not location or not allowed or not target.host:
        told = printable(location)[:200]
        raise RegistryError("refused", f"the registry redirects to {told!r}: no https")
    return target


def _context(file: Path) -> ssl.SSLContext:
    """The system's CAs and those of the file. Raises OSError and ssl.SSLError."""
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=file)
    return context
