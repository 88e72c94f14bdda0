"""Applies at a steady rate, whatever is waiting for an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import quantiles

from bench.client import BadAnswer, Connection, Target, connect

# What is late by more is not waited for: the rate is not reached then.
PATIENCE_SECONDS = 1.0
FIRST = 16


@dataclass
class Paced:
    """`latencies` are in ms, each counted from when its request was due; `reached` are answers a
    second, and `used` seconds of processor time."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    reached: float = 0.0
    used: float = 0.0

    def centile(self, percent: int) -> float:
        if len(self.latencies) < 2:
            return 0.0
        return quantiles(self.latencies, n=100, method="inclusive")[percent - 1]


async def paced(
    target: Target, opened: list[Connection], rate: int, seconds: float, used: Callable[[], float]
) -> Paced:
    """`used` tells how much processor time has been used so far. Of the connections those that
    still wait for an answer at the end are replaced."""
    result = Paced()
    # Nobody's first request is a steady state.
    await asyncio.gather(*map(target.ask, opened[:FIRST]), return_exceptions=True)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in opened:
        free.put_nowait(connection)
    before = used()
    started = last = time.perf_counter()

    async def one(due: float) -> None:
        nonlocal last
        connection = await free.get()
        try:
            await target.ask(connection)
        except BadAnswer:
            result.failed += 1
        else:
            last = time.perf_counter()
            result.latencies.append((last - due) * 1000)
        free.put_nowait(connection)

    tasks = []
    number = max(2, int(rate * seconds))
    for index in range(number):
        due = started + index / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(due)))
    _, late = await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    result.used = used() - before
    result.reached = len(result.latencies) / max(number / rate, last - started)
    await _renew(target, opened, {free.get_nowait() for _ in range(free.qsize())})
    return result


async def _renew(target: Target, opened: list[Connection], idle: set[Connection]) -> None:
    for index, connection in enumerate(opened):
        if connection not in idle or connection.closing:
            connection.close()
            opened[index] = await connect(target)
