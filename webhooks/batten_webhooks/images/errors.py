"""Why a registry gave no answer that could be used."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "invalid",  # an answer that is not what it says it is
    "not-found",  # neither such a tag nor such a digest, or not for these credentials
    "rate-limited",  # 429, or asked not to ask for a while
    "refused",  # an address or a scheme that we do not go to
    "timeout",
    "unauthorized",
    "unavailable",  # no connection, or HTTP 5xx
]


class RegistryError(Exception):
    """The message completes "IMAGE: …"; `seconds` is how long not to ask again, where told."""

    def __init__(self, reason: Reason, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.seconds = seconds
