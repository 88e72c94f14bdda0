"""The API server, as much of it as the operator needs, with a deadline on every call.

Objects are plain JSON: the client's models cost 30 MB of memory and are not needed for two kinds.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from aiohttp import ClientError, ClientResponse
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from msgspec import Raw, Struct, field

# It tells of a missing file, of which our own error tells.
logging.getLogger("kubernetes.aio.config.kube_config").setLevel(logging.ERROR)

CALL_SECONDS = 10.0
WATCH_SECONDS = 290
# API servers send a bookmark each minute: a watch that is silent for longer leads nowhere.
SILENT_SECONDS = 70.0
# More than an object of etcd's can be.
MOST_EVENT_BYTES = 8 * 2**20
JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"

Object = dict[str, Any]
T = TypeVar("T")


class ListMeta(Struct, frozen=True):
    version: str = field(default="", name="resourceVersion")
    token: str = field(default="", name="continue")


class Page(Struct, frozen=True):
    """Of a list. Its items are not decoded yet: all of them at once would take many times the
    memory of their bytes."""

    metadata: ListMeta
    items: list[Raw] | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    value: Object | None = None
    media: str = JSON
    query: tuple[tuple[str, str], ...] = ()
    accept: str = JSON

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class ApiError(Exception):
    """A call that failed. `status` is the HTTP status; 0 where the API server gave none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether it tells of the API server, which is away, too busy or does not know us, and not
        of what was asked for: then the next call fares no better."""
        return self.status in (0, 401, 429) or self.status >= 500


async def configuration(context: str = "") -> Configuration:
    """How to reach the API server: KUBECONFIG, else the ServiceAccount, else ~/.kube/config.

    With a `context` it is that one of a kubeconfig file, never the ServiceAccount.

    Raises ApiError where none of them is there or can be read.
    """
    found = Configuration()
    # As every client in Go: Python 3.13 began to refuse CAs without key identifiers, which EKS' old
    # clusters have (https://github.com/kubernetes-client/python/issues/2394).
    found.disable_strict_ssl_verification = True
    try:
        file = os.environ.get("KUBECONFIG") or None
        if not (context or file) and os.environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=found)
        else:
            await load_kube_config(
                config_file=file,
                context=context or None,
                client_configuration=found,
                persist_config=False,
            )
    except (ConfigException, OSError, ValueError) as error:
        raise ApiError(f"no way to the API server is configured: {error}") from None
    return found


class Cluster:
    """Connects at the first call; connects anew where its credentials are refused."""

    def __init__(self, context: str = "") -> None:
        self._context = context
        self._client: ApiClient | None = None
        self._uses = Counter[ApiClient]()

    async def get(self, path: str) -> Object:
        return await self._call(_Request("GET", path))

    async def page(self, path: str, most: int, token: str = "") -> Page:
        """Of a list as many items, from where its token says."""
        query = (("limit", str(most)), *((("continue", token),) if token else ()))
        request = _Request("GET", path, query=query)
        return _decoded(request, await self._body(request), Page)

    async def create(self, path: str, value: Object) -> Object:
        return await self._call(_Request("POST", path, value))

    async def replace(self, path: str, value: Object) -> Object:
        """Raises ApiError 409 where `metadata.resourceVersion` is no longer the object's."""
        return await self._call(_Request("PUT", path, value))

    async def patch(self, path: str, value: Object) -> Object:
        return await self._call(_Request("PATCH", path, value, STRATEGIC_MERGE))

    async def merge(self, path: str, value: Object) -> Object:
        """A merge patch (RFC 7386), which every kind takes."""
        return await self._call(_Request("PATCH", path, value, MERGE))

    async def delete(self, path: str) -> Object:
        return await self._call(_Request("DELETE", path))

    async def watch(self, path: str, version: str) -> AsyncIterator[Object]:
        """What changes below `path` after this resourceVersion, until the API server ends it, which
        it does after WATCH_SECONDS. Raises ApiError."""
        query = (
            ("watch", "true"),
            ("resourceVersion", version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(WATCH_SECONDS)),
        )
        request = _Request("GET", path, query=query)
        with _told(request, "the watch has gone silent"):
            async with self._connected() as client:
                async with asyncio.timeout(CALL_SECONDS):
                    response = await _open(client, request, WATCH_SECONDS + CALL_SECONDS)
                try:
                    if response.status >= 400:
                        raise ApiError(f"{request}: HTTP {response.status}", response.status)
                    async for line in _lines(response):
                        yield _decoded(request, line, Object)
                finally:
                    response.close()

    async def text(self, path: str, most: int) -> bytes:
        """What is no object, such as a log; of what is longer one byte more than `most`. Raises
        ApiError."""
        request = _Request("GET", path, accept="*/*")
        with _told(request, f"no answer within {CALL_SECONDS:g} s"):
            async with asyncio.timeout(CALL_SECONDS), self._connected() as client:
                response = await _open(client, request, CALL_SECONDS)
                try:
                    body = bytearray()
                    async for data in response.content.iter_any():
                        body += data
                        if len(body) > most:
                            break
                finally:
                    response.close()
        if response.status >= 400:
            why = _decoded(request, bytes(body), Object, response.status).get("message")
            raise ApiError(f"{request}: {why or f'HTTP {response.status}'}", response.status)
        return bytes(body[: most + 1])

    async def close(self) -> None:
        """Calls that are under way end by themselves, and close what they use."""
        client, self._client = self._client, None
        if client is not None and not self._uses[client]:
            await client.close()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ApiClient]:
        """One whose credentials were not refused yet. Raises ApiError."""
        if self._client is None:
            found = ApiClient(await configuration(self._context))
            found.user_agent = "batten-operator"
            self._client = self._client or found  # somebody else may have been faster
            if self._client is not found:
                await found.close()
        client = self._client
        self._uses[client] += 1
        try:
            yield client
        finally:
            self._uses[client] -= 1
            if not self._uses[client]:
                del self._uses[client]
                if client is not self._client:
                    await client.close()

    async def _call(self, request: _Request) -> Object:
        """Raises ApiError, and nothing else."""
        return _decoded(request, await self._body(request), Object)

    async def _body(self, request: _Request) -> bytes:
        """Raises ApiError, and nothing else."""
        with _told(request, f"no answer within {CALL_SECONDS:g} s"):
            async with asyncio.timeout(CALL_SECONDS), self._connected() as client:
                response = await _open(client, request, CALL_SECONDS)
                status, body = response.status, await response.read()
                if status == 401 and client is self._client:
                    self._client = None
        if status >= 400:
            answer = _decoded(request, body, Object, status)
            raise ApiError(f"{request}: {answer.get('message') or f'HTTP {status}'}", status)
        return body


async def _open(client: ApiClient, request: _Request, seconds: float) -> ClientResponse:
    """The answer's body is not read yet."""
    call = await client.param_serialize(
        method=request.method,
        resource_path=request.path,
        query_params=list(request.query),
        header_params={"Accept": request.accept, "Content-Type": request.media},
        body=request.value,
        auth_settings=["BearerToken"],
    )
    answer = await client.call_api(*call, _request_timeout=seconds)
    response: ClientResponse = answer.response
    return response


@contextmanager
def _told(request: _Request, silence: str) -> Iterator[None]:
    """Raises ApiError for whatever keeps an answer away."""
    try:
        yield
    except TimeoutError:
        raise ApiError(f"{request}: {silence}") from None
    except (ClientError, OSError) as error:
        raise ApiError(f"{request}: {error or type(error).__name__}") from None


def _decoded(request: _Request, body: bytes, shape: type[T], status: int = 200) -> T:
    """Raises ApiError."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(f"{request}: HTTP {status}, no JSON", status) from None


async def _lines(response: ClientResponse) -> AsyncIterator[bytes]:
    """An event each. Raises ApiError for one that is longer than any object may be, and
    TimeoutError where nothing comes any more."""
    held = bytearray()
    while True:
        async with asyncio.timeout(SILENT_SECONDS):
            data = await response.content.readany()
        if not data:
            return
        held += data
        *lines, rest = held.split(b"\n")
        for line in lines:
            yield bytes(line)
        held = rest
        if len(held) > MOST_EVENT_BYTES:
            raise ApiError("a watch sent an event that is too long")
