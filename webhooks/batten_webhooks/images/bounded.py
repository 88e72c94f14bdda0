"""Mappings that anybody may make grow, and that do not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(OrderedDict[K, V]):
    """Holds `most` entries and forgets what was set, or moved to the end, longest ago."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self._most:
            self.popitem(last=False)


class Weighed(Bounded[K, V]):
    """One whose values weigh no more than `heaviest` together, too, as `weigh` weighs each."""

    def __init__(self, most: int, heaviest: int, weigh: Callable[[V], int]) -> None:
        super().__init__(most)
        self._heaviest = heaviest
        self._weigh = weigh
        self._weights: dict[K, int] = {}
        self._weight = 0

    def __setitem__(self, key: K, value: V) -> None:
        weight = self._weigh(value)
        self._weight += weight - self._weights.get(key, 0)
        self._weights[key] = weight
        super().__setitem__(key, value)
        while self._weight > self._heaviest:
            self.popitem(last=False)

    def popitem(self, last: bool = True) -> tuple[K, V]:
        key, value = super().popitem(last)
        self._weight -= self._weights.pop(key)
        return key, value
