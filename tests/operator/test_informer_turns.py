"""A long list keeps nobody waiting. The cluster stands for one whose pages are large."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from msgspec import Raw

from batten_operator.cluster import Cluster, ListMeta, Page
from batten_operator.informer import Informer, Key

PAGES = 3


class Pages(Cluster):
    """Of as many items as are asked for, and nothing to watch."""

    async def page(self, path: str, most: int, token: str = "") -> Page:
        number = int(token or 0)
        names = (f"{number}-{at}" for at in range(most))
        items = [{"metadata": {"name": name, "resourceVersion": "1"}} for name in names]
        left = str(number + 1) if number + 1 < PAGES else ""
        return Page(ListMeta("7", left), [Raw(json.dumps(each).encode()) for each in items])


def test_others_get_a_turn_between_any_two_objects() -> None:
    turns = 0
    seen: list[int] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def listed() -> None:
        informer = Informer(Pages(), "/apis/x", taken, lambda _: None)
        busy = asyncio.create_task(others())
        assert await informer._list() == "7"
        busy.cancel()

    def taken(_: Key, __: Any) -> None:
        seen.append(turns)

    asyncio.run(listed())
    assert len(seen) % PAGES == 0
    assert len(set(seen)) >= len(seen) - PAGES
