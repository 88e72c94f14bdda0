"""A light HTTPS client: kept connections, prepared requests, one answer at a time on each."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from bench.reviews import UID

_UID = UID.encode()
_numbers = itertools.count()


class BadAnswer(Exception):
    """An answer that no review should get, or none."""


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook and the review to send to it."""

    port: int
    trust: ssl.SSLContext
    path: str
    body: bytes
    allowed: bool = True


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiter: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(BadAnswer(f"the connection ended: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._waiter is None:
            return
        head = bytes(self._buffer[:end]).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 :])
        self._buffer.clear()
        if head.startswith(b"http/1.1 200"):
            self._waiter.set_result(body)
        else:
            self._waiter.set_exception(BadAnswer(body.decode()))

    async def ask(self, target: Target) -> None:
        """One review with a uid of its own. Raises BadAnswer if that is not what is answered."""
        uid = b"%036d" % next(_numbers)
        head = b"POST %b?timeout=5s HTTP/1.1\r\nHost: localhost\r\n" % target.path.encode()
        head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(target.body)
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(head + target.body.replace(_UID, uid))
        answer = await self._waiter
        allowed = b'"allowed":true' if target.allowed else b'"allowed":false'
        if uid not in answer or allowed not in answer:
            raise BadAnswer(answer.decode())

    def close(self) -> None:
        self._transport.close()


@asynccontextmanager
async def connected(target: Target, connections: int) -> AsyncIterator[list[Connection]]:
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(connections):
        _, connection = await loop.create_connection(
            Connection, "127.0.0.1", target.port, ssl=target.trust, server_hostname="localhost"
        )
        opened.append(connection)
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
            await connection.ask(target)
            count += 1
        return count

    return sum(await asyncio.gather(*map(work, opened)))


async def latencies(target: Target, rate: int, seconds: float, connections: int) -> list[float]:
    """Milliseconds of each answer at a steady rate, counted from when its review was due."""
    async with connected(target, connections) as opened:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for connection in opened:
            await connection.ask(target)  # a connection's first review is no steady state
            free.put_nowait(connection)

        async def one(due: float) -> float:
            connection = await free.get()
            await connection.ask(target)
            free.put_nowait(connection)
            return (time.perf_counter() - due) * 1000

        tasks = []
        started = time.perf_counter()
        for index in range(int(rate * seconds)):
            due = started + index / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(due)))
        return await asyncio.gather(*tasks)
