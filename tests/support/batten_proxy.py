"""A way to a server that can be cut: a TCP proxy on this machine."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from batten_cluster import free_ports

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing is a reset, not a farewell


class Proxy:
    """Passes everything on, until it is told otherwise. `port` is of 127.0.0.1."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        (self.port,) = free_ports(1)
        self._loop = asyncio.new_event_loop()
        self._links: set[_Link] = set()
        self._silent = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def cut(self) -> None:
        """Reset every connection that is open; new ones are let through."""
        self._do(self._cut)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Nothing passes, and nobody is told. Afterwards new connections do; of those that were
        open both ends wait for good, as behind a firewall that has forgotten them."""
        self._do(lambda: self._be_silent(True))
        try:
            yield
        finally:
            self._do(lambda: self._be_silent(False))

    def close(self) -> None:
        self._do(self._cut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _do(self, work: Callable[[], None]) -> None:
        done = threading.Event()

        def do() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(do)
        assert done.wait(10)

    def _cut(self) -> None:
        for link in self._links:
            link.reset()
        self._links.clear()

    def _be_silent(self, silent: bool) -> None:
        self._silent = silent
        for link in self._links:
            link.stop()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            server = runner.run(asyncio.start_server(self._accept, "127.0.0.1", self.port))
            self._started.set()
            self._loop.run_forever()
            server.close()

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
