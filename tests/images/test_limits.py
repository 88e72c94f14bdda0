"""How long a registry is left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from batten_webhooks.images import limits
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.limits import (
    FAILURES,
    LONGEST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    Circuits,
    retry_after,
)

DOWN = RegistryError("unavailable", "down")


def later(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("seconds", "least", "most"),
    [(100, 95, 100), (-100, 1, 1), (10**8, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)],
)
def test_retry_after_may_be_a_date(seconds: float, least: float, most: float) -> None:
    assert least <= retry_after(later(seconds)) <= most


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("120", 120, 120),
        (" 7 ", 7, 7),
        ("0", 1, 1),
        ("-5", PAUSE_SECONDS, PAUSE_SECONDS),
        ("9" * 400, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS),
        ("soon", PAUSE_SECONDS, PAUSE_SECONDS),
        ("", PAUSE_SECONDS, PAUSE_SECONDS),
        ("٣", PAUSE_SECONDS, PAUSE_SECONDS),
    ],
)
def test_retry_after_is_a_number_of_seconds(value: str, least: float, most: float) -> None:
    assert least <= retry_after(value) <= most


def test_a_host_is_left_alone_after_some_failures_in_a_row_and_others_are_not() -> None:
    now = [0.0]
    circuits = Circuits(lambda: now[0])
    for _ in range(FAILURES - 1):
        circuits.failed("a", DOWN)
    circuits.answered("a")
    for _ in range(FAILURES):
        circuits.check("a")
        circuits.failed("a", DOWN)
    with pytest.raises(RegistryError, match="down; not asked again for 10 s"):
        circuits.check("a")
    circuits.check("b")
    now[0] += 10
    circuits.check("a")


def test_hosts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_HOSTS", 3)
    circuits = Circuits(lambda: 0.0)
    for name in "abcd":
        circuits.failed(name, RegistryError("rate-limited", "too often", 60))
    circuits.check("a")
    with pytest.raises(RegistryError):
        circuits.check("b")
