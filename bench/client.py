"""A light HTTPS client: kept connections, prepared requests, one answer at a time on each."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, cast

from bench.reviews import UID

_UID = UID.encode()
_numbers = itertools.count()


class BadAnswer(Exception):
    """An answer that no review should get, or none."""


class Target(Protocol):
    """Where to ask, by TLS, and what."""

    @property
    def port(self) -> int: ...

    @property
    def trust(self) -> ssl.SSLContext: ...

    async def ask(self, connection: Connection) -> None:
        """Raises BadAnswer if what is answered is not what it should be."""


@dataclass(frozen=True, slots=True)
class Review:
    """A webhook and the review to send to it; `tells` is in every good answer."""

    port: int
    trust: ssl.SSLContext
    path: str
    body: bytes
    tells: bytes = b'"allowed":true'

    async def ask(self, connection: Connection) -> None:
        """One review with a uid of its own."""
        uid = b"%036d" % next(_numbers)
        body = self.body.replace(_UID, uid)
        _, answer = await connection.exchange(post(f"{self.path}?timeout=5s", body))
        if uid not in answer or self.tells not in answer:
            raise BadAnswer(answer.decode())


def post(path: str, body: bytes) -> bytes:
    """A request, head and all."""
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % path.encode()
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(BadAnswer(f"the connection ended: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._waiter is None or self._waiter.done():
            return
        head = bytes(self._buffer[:end]).lower()
        length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if not length:  # in chunks; JSON itself holds no such line
            if not self._buffer.endswith(b"\r\n0\r\n\r\n"):
                return
        elif len(self._buffer) < end + 4 + int(length):
            return
        body = bytes(self._buffer[end + 4 :])
        self._buffer.clear()
        status = int(head[9:12])
        if status < 300:
            self._waiter.set_result((status, body))
        else:
            self._waiter.set_exception(BadAnswer(body.decode()))

    async def exchange(self, message: bytes) -> tuple[int, bytes]:
        """The answer's status and its body as it was sent. Raises BadAnswer if it is no success."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return await self._waiter

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()


async def connect(target: Target) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection, "127.0.0.1", target.port, ssl=target.trust, server_hostname="localhost"
    )
    return connection


@asynccontextmanager
async def connected(target: Target, connections: int) -> AsyncIterator[list[Connection]]:
    opened = [await connect(target) for _ in range(connections)]
    yield opened
    for connection in opened:
        connection.close()


async def flood(opened: Sequence[Connection], target: Target, seconds: float) -> int:
    """Reviews answered while every connection sends the next as soon as it has an answer."""
    end = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()

    def stay_awake() -> None:
        """A client that sleeps has to be woken by the server's system calls, at its cost."""
        if time.perf_counter() < end:
            loop.call_soon(stay_awake)

    stay_awake()
    return await _until(opened, [target], lambda: time.perf_counter() < end)


async def send(targets: Sequence[Target], number: int, connections: int) -> None:
    """So many reviews, of each target in turn."""
    left = itertools.count(number, -1)
    async with connected(targets[0], connections) as opened:
        await _until(opened, targets, lambda: next(left) > 0)


async def _until(
    opened: Sequence[Connection], targets: Sequence[Target], more: Callable[[], bool]
) -> int:
    async def work(connection: Connection) -> int:
        count = 0
        for target in itertools.cycle(targets):
            if not more():
                break
            await target.ask(connection)
            count += 1
        return count

    return sum(await asyncio.gather(*map(work, opened)))


async def latencies(target: Target, rate: int, seconds: float, connections: int) -> list[float]:
    """Milliseconds of each answer at a steady rate, counted from when its review was due."""
    async with connected(target, connections) as opened:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for connection in opened:
            await target.ask(connection)  # a connection's first review is no steady state
            free.put_nowait(connection)

        async def one(due: float) -> float:
            connection = await free.get()
            await target.ask(connection)
            free.put_nowait(connection)
            return (time.perf_counter() - due) * 1000

        tasks = []
        started = time.perf_counter()
        for index in range(int(rate * seconds)):
            due = started + index / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(due)))
        return await asyncio.gather(*tasks)
