"""Registries that ask to be left alone, or do not answer, are: for a while, each host by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from batten_webhooks.images.bounded import Bounded
from batten_webhooks.images.errors import RegistryError

MOST_HOSTS = 1_000
# Without a Retry-After, and however long one asks for.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 3600.0
# So many connections in a row that failed, and nothing is tried for a while.
FAILURES, FAILURE_PAUSE_SECONDS = 5, 10.0


@dataclass(slots=True)
class _Host:
    failures: int = 0
    until: float = 0.0
    why: RegistryError | None = None


class Circuits:
    """One for each host; `now` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._hosts = Bounded[str, _Host](MOST_HOSTS)

    def check(self, host: str) -> None:
        """Raises RegistryError while the host is not to be asked."""
        known = self._hosts.get(host)
        if known is None or known.why is None:
            return
        left = known.until - self._now()
        if left > 0:
            raise RegistryError(
                known.why.reason, f"{known.why}; not asked again for {left:.0f} s", left
            )

    def answered(self, host: str) -> None:
        self._hosts.pop(host, None)

    def failed(self, host: str, error: RegistryError) -> None:
        """What counts: no answer at all, a server's own error, a request to wait."""
        known = self._hosts[host] = self._hosts.get(host) or _Host()
        known.failures += 1
        pause = error.seconds
        if not pause and known.failures >= FAILURES:
            pause = FAILURE_PAUSE_SECONDS
        if pause:
            known.until, known.why, known.failures = self._now() + pause, error, 0


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3), within bounds."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:6])
    else:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return PAUSE_SECONDS
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (aware - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 1.0), LONGEST_PAUSE_SECONDS)
