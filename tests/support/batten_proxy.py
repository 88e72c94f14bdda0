"""Ways to a server that can fail: a TCP proxy that is cut, an HTTP proxy that answers itself."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from batten_cluster import free_ports

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing is a reset, not a farewell


class _Thread:
    """A loop of its own, for what serves a test that waits."""

    def __init__(self, opened: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opened,), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def _run(self, opened: Callable[[], Coroutine[Any, Any, object]]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            kept = runner.run(opened())
            self._started.set()
            self._loop.run_forever()
            del kept

    def do(self, work: Callable[[], None]) -> None:
        done = threading.Event()

        def do() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(do)
        assert done.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


Refuses = Callable[[str, str, bytes], int]


class Answers:
    """An HTTP proxy to an API server. `refuses` is asked of method, path and body which status is
    answered in its place, 0 for what the API server says itself."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        self.refuses: Refuses = lambda *_: 0
        self._server, self._context = server, context
        (self.port,) = free_ports(1)
        self._thread = _Thread(self._open)

    def close(self) -> None:
        self._thread.close()

    async def _open(self) -> object:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        self._session = aiohttp.ClientSession(connector=connector)
        runner = web.ServerRunner(web.Server(self._answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        return runner

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if status := self.refuses(request.method, request.path, body):
            said = {"kind": "Status", "code": status, "message": "refused by the test"}
            return web.json_response(said, status=status)
        kept = {"Accept", "Authorization", "Content-Type"}
        headers = {name: text for name, text in request.headers.items() if name in kept}
        url = self._server + request.path_qs
        async with self._session.request(
            request.method, url, data=body or None, headers=headers
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
        return response


class Proxy:
    """Passes everything on, until it is told otherwise. `port` is of 127.0.0.1."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        (self.port,) = free_ports(1)
        self._links: set[_Link] = set()
        self._silent = False
        self._thread = _Thread(lambda: asyncio.start_server(self._accept, "127.0.0.1", self.port))

    def cut(self) -> None:
        """Reset every connection that is open; new ones are let through."""
        self._thread.do(self._cut)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Nothing passes, and nobody is told. Afterwards new connections do; of those that were
        open both ends wait for good, as behind a firewall that has forgotten them."""
        self._thread.do(lambda: self._be_silent(True))
        try:
            yield
        finally:
            self._thread.do(lambda: self._be_silent(False))

    def close(self) -> None:
        self.cut()
        self._thread.close()

    def _cut(self) -> None:
        for link in self._links:
            link.reset()
        self._links.clear()

    def _be_silent(self, silent: bool) -> None:
        self._silent = silent
        for link in self._links:
            link.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._silent:
            self._links.add(_Link((writer,), ()))
            return
        try:
            answers, out = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        ways = asyncio.create_task(_pass(reader, out)), asyncio.create_task(_pass(answers, writer))
        self._links.add(_Link((writer, out), ways))


@dataclass(frozen=True, eq=False)
class _Link:
    """Of one connection: its writers are kept, so that no end is closed for being forgotten."""

    writers: tuple[asyncio.StreamWriter, ...]
    ways: tuple[asyncio.Task[None], ...]

    def stop(self) -> None:
        for way in self.ways:
            way.cancel()

    def reset(self) -> None:
        self.stop()
        for writer in self.writers:
            _reset(writer)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    bound: socket.socket | None = writer.get_extra_info("socket")
    with suppress(OSError):
        if bound is not None:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
