"""How often the controller may write to the API server."""

from __future__ import annotations

import asyncio
import time


class WriteBudget:
    """Never more than `per_second` writes in any second: they are spaced, not sent in bursts.

    All that write share one; who asks first writes first.
    """

    def __init__(self, per_second: float = 5.0) -> None:
        self._interval = 1.0 / per_second
        self._next = 0.0

    async def take(self) -> None:
        """Returns when one write may be sent."""
        now = time.monotonic()
        mine = max(now, self._next)
        self._next = mine + self._interval
        if mine > now:
            await asyncio.sleep(mine - now)
