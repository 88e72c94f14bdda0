"""Attestations as they are known: read once for a while, and each signature checked once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from batten_webhooks.evidence.attestations.attached import MOST_TOGETHER, attached
from batten_webhooks.evidence.attestations.model import (
    Attached,
    Candidate,
    Found,
    Rejected,
    Trust,
    Verified,
    short,
)
from batten_webhooks.evidence.attestations.verify import bound, check
from batten_webhooks.images.bounded import Weighed
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Keyring
from batten_webhooks.images.registry import Registries
from batten_webhooks.images.shared import Shared, failed_seconds, within
from batten_webhooks.reference import Reference

# What was read is as fresh as this; for so many times as long after it is given while it is asked
# for again. What was missing, or could not be read, may be there soon.
FRESH_SECONDS, STALE_TIMES = 300.0, 10
SOON_SECONDS = 5.0
MOST_IMAGES, MOST_CHECKED = 2_000, 10_000
# Of the blobs; checked, and so parsed, they take several times as much.
MOST_READ_BYTES, MOST_CHECKED_BYTES = 2 * MOST_TOGETHER, MOST_TOGETHER

NOTHING = Attached(())

_Key = tuple[str, tuple[str, ...], str]


@dataclass(slots=True)
class _Known:
    """What was read, or an error, since `at`; it is not asked for before `again`."""

    at: float
    attached: Attached = NOTHING
    error: RegistryError | None = None
    again: float = 0.0

    @property
    def weight(self) -> int:
        return sum(len(each.data) for each in self.attached.candidates)


@dataclass(frozen=True, slots=True)
class _Checked:
    result: Verified | Rejected
    weight: int


class Attestations:
    """`now` is a monotonic clock in seconds; for `fresh` of them what was read is not read again.
    `root` is the file of Sigstore's trusted root, for signatures without a key."""

    def __init__(
        self,
        registries: Registries,
        now: Callable[[], float] = time.monotonic,
        root: Path | None = None,
        fresh: float = FRESH_SECONDS,
    ) -> None:
        self._registries = registries
        self._now = now
        self._root = root
        self._fresh = fresh
        self._known = Weighed[_Key, _Known](MOST_IMAGES, MOST_READ_BYTES, lambda each: each.weight)
        self._checked = Weighed[tuple[str, Trust], _Checked](
            MOST_CHECKED, MOST_CHECKED_BYTES, lambda each: each.weight
        )
        self._reading = Shared[_Key, Attached]()
        self._finding = Shared[tuple[_Key, Trust, float], Found]()
        # Signatures, and JSON of megabytes, are not for the event loop.
        self._threads = ThreadPoolExecutor(1, "attestations")

    async def close(self) -> None:
        await self._finding.close()
        await self._reading.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def find(  # noqa: PLR0913, PLR0917 - which image, as whom, and who is believed
        self,
        reference: Reference,
        digests: Sequence[str],
        keyring: Keyring,
        trust: Trust,
        seconds: float,
        age: float = math.inf,
    ) -> Found:
        """What counts of what is beside an image with any of `digests`, answered within `seconds`.

        What was read longer than `age` seconds ago is read again first: before an image is refused
        for lack of an attestation, which may have been made since. Raises RegistryError.
        """
        found = self.known(reference, digests, keyring, trust, age)
        if isinstance(found, RegistryError):
            raise RegistryError(found.reason, str(found))
        if found is not None:
            return found
        key = _key(reference, digests, keyring)
        task = self._finding.ask(
            (key, trust, age), lambda: self._find(key, reference, keyring, trust, age)
        )
        return await within(asyncio.shield(task), seconds)

    def known(
        self,
        reference: Reference,
        digests: Sequence[str],
        keyring: Keyring,
        trust: Trust,
        age: float = math.inf,
    ) -> Found | RegistryError | None:
        """The same without waiting; None where it has to be read or checked first.

        What is old is read again meanwhile.
        """
        key = _key(reference, digests, keyring)
        read = self._usable(key, reference, keyring, age)
        return self._judged(key, read, trust) if isinstance(read, Attached) else read

    def _usable(
        self, key: _Key, reference: Reference, keyring: Keyring, age: float
    ) -> Attached | RegistryError | None:
        known, now = self._known.get(key), self._now()
        if known is None:
            return None
        old = now - known.at
        if known.error:
            return known.error if old < failed_seconds(known.error) else None
        fresh, lasts = self._seconds(known.attached)
        if old >= min(age, lasts):
            return None
        if old >= fresh and now >= known.again:
            self._reading.ask(key, lambda: self._read(key, reference, keyring))
        self._known.move_to_end(key)
        return known.attached

    def _seconds(self, read: Attached) -> tuple[float, float]:
        """For how long it is fresh, and for how long it is better than nothing."""
        if not read.candidates:
            return SOON_SECONDS, SOON_SECONDS
        fresh = SOON_SECONDS if read.failed else self._fresh
        return fresh, self._fresh * (1 + STALE_TIMES)

    async def _find(
        self, key: _Key, reference: Reference, keyring: Keyring, trust: Trust, age: float
    ) -> Found:
        read = self._usable(key, reference, keyring, age)
        if not isinstance(read, Attached):
            reading = self._reading.ask(key, lambda: self._read(key, reference, keyring))
            read = await asyncio.shield(reading)
        keys = [(each.digest, trust) for each in read.candidates]
        known = [self._checked.get(each) for each in keys]
        checked = await asyncio.get_running_loop().run_in_executor(
            self._threads, _check_all, read.candidates, known, trust, self._root
        )
        for each, result in zip(keys, checked, strict=True):
            self._checked[each] = result
        return _found(read, checked, frozenset(key[1]))

    def _judged(self, key: _Key, read: Attached, trust: Trust) -> Found | None:
        checked: list[_Checked] = []
        for candidate in read.candidates:
            known = self._checked.get((candidate.digest, trust))
            if known is None:
                return None
            self._checked.move_to_end((candidate.digest, trust))
            checked.append(known)
        return _found(read, checked, frozenset(key[1]))

    async def _read(self, key: _Key, reference: Reference, keyring: Keyring) -> Attached:
        """What was read whole goes on to be given while there is nothing newer that is."""
        known = self._known.get(key)
        whole = known is not None and bool(known.attached.candidates) and not known.attached.failed
        try:
            found = await attached(self._registries, reference, key[1], keyring)
        except RegistryError as error:
            lost = error.reason in {"not-found", "unauthorized", "refused"}
            if known is not None and whole and not lost:
                known.again = self._now() + failed_seconds(error)
            else:
                self._known[key] = _Known(self._now(), error=error)
            raise
        if known is not None and whole and found.failed:
            known.again = self._now() + SOON_SECONDS
            return known.attached
        self._known[key] = _Known(self._now(), found)
        return found


def _key(reference: Reference, digests: Sequence[str], keyring: Keyring) -> _Key:
    return reference.name, tuple(digests), keyring.identity(reference)


def _check_all(
    candidates: Sequence[Candidate],
    known: Sequence[_Checked | None],
    trust: Trust,
    root: Path | None,
) -> list[_Checked]:
    return [
        already or _check(candidate, trust, root)
        for candidate, already in zip(candidates, known, strict=True)
    ]


def _check(candidate: Candidate, trust: Trust, root: Path | None) -> _Checked:
    try:
        return _Checked(check(candidate, trust, root), len(candidate.data))
    except Rejected as error:
        # Without the frames that it was raised in, which hold the attestation.
        return _Checked(Rejected(error.reason, f"attestation {short(candidate.digest)} {error}"), 0)


def _found(read: Attached, checked: Sequence[_Checked], digests: frozenset[str]) -> Found:
    verified: list[Verified] = []
    rejected: list[Rejected] = []
    for candidate, each in zip(read.candidates, checked, strict=True):
        try:
            if isinstance(each.result, Rejected):
                rejected.append(each.result)
            else:
                verified.append(bound(each.result, digests))
        except Rejected as error:
            rejected.append(
                Rejected(error.reason, f"attestation {short(candidate.digest)} {error}")
            )
    return Found(tuple(verified), tuple(rejected), read.told)
