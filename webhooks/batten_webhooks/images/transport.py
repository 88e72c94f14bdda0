"""One exchange with a registry: where it may go, how long it may take, what its failure means."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

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
from multidict import CIMultiDictProxy
from yarl import URL

from batten_webhooks.images.addresses import (
    GuardedResolver,
    RefusedAddress,
    forbidden,
    is_address,
    is_listed,
)
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.limits import PAUSE_SECONDS, Circuits, retry_after
from batten_webhooks.messages import printable
from batten_webhooks.reference import InvalidReference, parse_reference

EXCHANGE_SECONDS, CONNECT_SECONDS = 8.0, 4.0
MOST_REDIRECTS = 5
MOST_CONNECTIONS, MOST_CONNECTIONS_PER_HOST = 256, 8


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


def registry_settings(
    *,
    plain_http: Collection[str] = (),
    listed: Collection[str] = (),
    mirrors: Iterable[str] = (),
    ca: str = "",
) -> RegistrySettings:
    """From texts, each mirror as REGISTRY=HOST. Raises ValueError, which names what is wrong."""
    found: dict[str, tuple[str, ...]] = {}
    for text in mirrors:
        registry, equals, mirror = text.partition("=")
        if not (equals and registry and mirror):
            raise ValueError(f"--registry-mirror {printable(text)}: is no REGISTRY=HOST[:PORT]")
        found[registry] = (*found.get(registry, ()), mirror)
    for text in chain(plain_http, listed, found, *found.values()):
        if not _is_registry(text):
            raise ValueError(
                f"{printable(text)}: is no registry as references name it: HOST[:PORT]"
            )
    return RegistrySettings(
        plain_http=frozenset(plain_http),
        listed=frozenset(listed),
        certificates={"": Path(ca)} if ca else {},
        mirrors=found,
    )


def _is_registry(text: str) -> bool:
    try:
        return parse_reference(f"{text}/image").registry == text
    except InvalidReference:
        return False


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is empty of anything but 200."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Transport:
    """Connections to every host, and which of them are left alone for a while."""

    def __init__(self, settings: RegistrySettings) -> None:
        """Raises OSError and ssl.SSLError for files of CAs."""
        self._listed = settings.listed | settings.plain_http
        self._circuits = Circuits()
        self._tls = {host: _context(file) for host, file in settings.certificates.items()}
        self._opened: ClientSession | None = None

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    async def follow(self, method: str, url: URL, headers: Mapping[str, str], limit: int) -> Answer:
        """Through redirects, without the credentials where they lead to another host.

        Raises RegistryError.
        """
        sent = dict(headers)
        for _ in range(MOST_REDIRECTS + 1):
            answer = await self.exchange(method, url, sent, limit)
            if answer.status not in {301, 302, 303, 307, 308}:
                return answer
            target = _location(url, answer.headers.get("Location", ""))
            if target.origin() != url.origin():
                sent.pop("Authorization", None)
            url = target
        raise RegistryError("invalid", f"it redirects more than {MOST_REDIRECTS} times")

    async def exchange(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        limit: int,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """What one host answers; `limit` is how many bytes of it are read. Raises RegistryError."""
        host = url.authority
        self._circuits.check(host)
        try:
            async with self._sent(method, url, headers, form) as response:
                answer = Answer(response.status, response.headers, await _read(response, limit))
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
        self, method: str, url: URL, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> AsyncIterator[ClientResponse]:
        self._check_literal(url)
        host, told = url.host or "", f"registry {printable(url.authority)}"
        tls = self._tls.get(url.authority) or self._tls.get(host) or self._tls.get("")
        try:
            async with self._session().request(
                method, url, headers=headers, data=form, ssl=tls or True, allow_redirects=False
            ) as response:
                yield response
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


def _unserved(host: str, answer: Answer) -> RegistryError | None:
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
    # A CA that nodes trust is trusted here, although Python 3.13 wants key identifiers in it.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cafile=file)
    return context
