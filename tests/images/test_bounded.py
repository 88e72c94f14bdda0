"""What may grow by anybody's doing, and does not."""

from __future__ import annotations

from batten_webhooks.images.bounded import Bounded, Weighed


def test_what_was_set_longest_ago_is_forgotten() -> None:
    held = Bounded[int, str](2)
    for key in (1, 2, 1, 3):
        held[key] = "x"
    assert list(held) == [1, 3]


def test_heavy_values_leave_room_for_fewer() -> None:
    held = Weighed[int, str](3, 10, len)
    for key in range(5):
        held[key] = "x"
    assert list(held) == [2, 3, 4]
    held[5] = "x" * 9
    assert list(held) == [4, 5]
    held[4] = "xx"
    assert list(held) == [4]
    held[4] = "x" * 10
    assert list(held) == [4]
    held[6] = "x" * 11
    assert list(held) == []
    held[7] = "x" * 10
    assert list(held) == [7]
