"""How work grows with its input: a ratio of one run, since times say nothing on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def growth(work: Callable[[int], object], small: int, large: int) -> float:
    """How many times as long `work(large)` takes as `work(small)`, in processor time."""
    return _least(work, large) / _least(work, small)


def _least(work: Callable[[int], object], size: int) -> float:
    times = []
    for _ in range(3):
        started = time.process_time()
        work(size)
        times.append(time.process_time() - started)
    return max(min(times), 1e-6)
