"""Writes are spaced, whoever asks."""

from __future__ import annotations

import asyncio
import time

from batten_operator.budget import WriteBudget


def test_no_second_holds_more_writes_than_are_allowed() -> None:
    async def main() -> list[float]:
        budget = WriteBudget(20)
        times: list[float] = []

        async def write() -> None:
            await budget.take()
            times.append(time.monotonic())

        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(write())
        return times

    times = asyncio.run(main())
    assert times[-1] - times[0] >= 9 / 20 - 0.01
