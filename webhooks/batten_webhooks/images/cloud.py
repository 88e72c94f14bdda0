"""Registries of clouds, asked as the operator's own cloud identity, as nodes ask them as theirs.

The administrator lists the hosts, and each credential is for the host that it was listed for: what
a Pod's author writes selects nothing but one of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import inf

from batten_webhooks.images.cloud_sources import SOURCES, CloudError, Kind, Source, kind_of
from batten_webhooks.images.keyring import Credential
from batten_webhooks.images.shared import Shared
from batten_webhooks.images.transport import Transport
from batten_webhooks.messages import printable

# Whoever needs a credential waits for it so long; what went wrong is not tried again for a while.
WAIT_SECONDS, FAILED_SECONDS = 4.0, 30.0
# Renewed beside the answers after half of its life, or so long; of its life a part is left, so that
# none ends on its way.
RENEW_PART, RENEW_SECONDS, LIFE_PART = 0.5, 3600.0, 0.9
LONGEST_TOLD = 300
MODULES: Mapping[Kind, str] = {
    "acr": "azure.identity",
    "ecr": "botocore.session",
    "gar": "google.auth.transport.requests",
}


class MissingExtra(Exception):
    """The message completes "--cloud-registries …"."""


@dataclass(slots=True)
class _Known:
    """By the monotonic clock: good before `ends`, asked for again from `renew`, but not before
    `again`."""

    credential: Credential = field(default_factory=Credential)
    renew: float = -inf
    ends: float = -inf
    again: float = -inf


class CloudCredentials:
    """Of every listed host the credential, asked for once by however many need it.

    `told` is called with a host and why it has no credential, "" where it has one. `now` is a
    monotonic clock in seconds.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        told: Callable[[str, str], None] = lambda *_: None,
        *,
        sources: Mapping[Kind, Source] = SOURCES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises MissingExtra, and ValueError for a host that is no cloud's registry."""
        kinds = {host: kind_of(host) for host in hosts}
        for host, kind in kinds.items():
            _require(host, kind)
        self._sources = {host: sources[kind] for host, kind in kinds.items()}
        self._known = {host: _Known() for host in kinds}
        self._told = told
        self._now = now
        self._asking = Shared[str, Credential]()

    def __contains__(self, host: str) -> bool:
        return host in self._sources

    async def close(self) -> None:
        await self._asking.close()

    async def credential(self, host: str, transport: Transport) -> Credential:
        """Of a listed host. Raises CloudError."""
        known, now = self._known[host], self._now()
        good = now < known.ends
        if now >= known.again and now >= known.renew:
            task = self._asking.ask(host, lambda: self._fetch(host, transport))
            if not good:
                return await self._within(host, task)
        if not good:
            raise _lacking(host)
        return known.credential

    async def _within(self, host: str, task: asyncio.Task[Credential]) -> Credential:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await asyncio.shield(task)
        except TimeoutError:
            self._failed(host, f"no answer within {WAIT_SECONDS:g} s")
            raise _lacking(host) from None

    async def _fetch(self, host: str, transport: Transport) -> Credential:
        """Raises CloudError. Whoever waits has a deadline, this has none: what a library hangs in
        is not begun a second time."""
        try:
            granted = await self._sources[host](host, transport)
            lasts = granted.until - time.time()
            if lasts <= 0:
                raise CloudError("the credential has expired already")
        except Exception as error:  # each cloud's library has its own, and its files' and sockets'
            self._failed(host, _said(error))
            raise _lacking(host) from None
        now = self._now()
        renew = min(RENEW_PART * lasts, RENEW_SECONDS)
        self._known[host] = _Known(granted.credential, now + renew, now + LIFE_PART * lasts)
        self._told(host, "")
        return granted.credential

    def _failed(self, host: str, why: str) -> None:
        """Told once, however many waited."""
        known, now = self._known[host], self._now()
        if now >= known.again:
            known.again = now + FAILED_SECONDS
            self._told(host, why)


def _require(host: str, kind: Kind) -> None:
    try:
        import_module(MODULES[kind])
    except ImportError:
        raise MissingExtra(f"{host}: needs pip install 'batten[{kind}]'") from None


def _lacking(host: str) -> CloudError:
    """For the Pod's author: what a library says of the operator's accounts is for its own log."""
    return CloudError(
        f"the operator's cloud identity gave no credential for {host}: its log says why"
    )


def _said(error: Exception) -> str:
    """Only what it says first: what follows may be an answer with a secret in it."""
    first = error.args[0] if error.args else ""
    return printable(f"{type(error).__name__}: {first}")[:LONGEST_TOLD]
