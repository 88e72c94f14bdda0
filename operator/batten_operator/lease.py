"""One leader among the controllers: a Lease (coordination.k8s.io/v1) that its holder renews.

Clocks of other machines say nothing: a holder counts as gone once its Lease has not changed for its
duration by our own monotonic clock, as in client-go's leader election.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn

from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.logs import fields

logger = logging.getLogger(__name__)

# A leader that dies is followed within LEASE_SECONDS and twice LOOK_SECONDS, by which whoever waits
# sees its last sign of life and then its absence; one that cannot renew stops before anybody else
# may begin. No try lasts longer than TRY_SECONDS, on a connection that leads nowhere.
LEASE_SECONDS = 12
RENEW_SECONDS = 8.0
RETRY_SECONDS = 2.0
LOOK_SECONDS = 1.0
TRY_SECONDS = 4.0
RELEASE_SECONDS = 2.0


class Lease:
    """`identity` tells this process from all others, also from an earlier one of the same Pod."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str) -> None:
        self._cluster = cluster
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._seen = ""
        self._seen_at = 0.0
        self._seen_other = False

    async def run(self, lead: Callable[[], Coroutine[Any, Any, object]]) -> NoReturn:
        """Calls `lead` whenever the Lease is ours and cancels it when it is no more.

        Released when this is cancelled. What `lead` raises is raised.
        """
        while True:
            if await self._tried(TRY_SECONDS):
                await self._hold(lead)
            await asyncio.sleep(LOOK_SECONDS)

    async def _hold(self, lead: Callable[[], Coroutine[Any, Any, object]]) -> None:
        logger.info("leading", extra=fields(lease=self._name, identity=self._identity))
        leading = asyncio.ensure_future(lead())
        renewing = asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait((leading, renewing), return_when=asyncio.FIRST_COMPLETED)
            if leading.done():
                leading.result()
        finally:
            for task in (leading, renewing):
                task.cancel()
            await asyncio.gather(leading, renewing, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._release()
            logger.info("leading no more", extra=fields(lease=self._name, identity=self._identity))

    async def _renew(self) -> None:
        """Returns once the Lease is lost, or was not renewed for too long."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            started = time.monotonic()
            left = max(0.0, renewed + RENEW_SECONDS - started)
            if await self._tried(min(TRY_SECONDS, left)):
                renewed = started
            elif time.monotonic() - renewed >= RENEW_SECONDS or self._seen_other:
                return

    async def _tried(self, seconds: float) -> bool:
        """Whether it is ours, as far as that can be known so soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._try()
        return False

    async def _try(self) -> bool:
        """Take or renew the Lease; whether it is ours now."""
        self._seen_other = False
        try:
            lease = await self._read()
            if lease is None:
                metadata = {"name": self._name}
                head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
                value = {**head, "metadata": metadata, "spec": self._spec({})}
                await self._cluster.create(self._leases, value)
                return True
            spec = lease.get("spec") or {}
            holder = spec.get("holderIdentity") or ""
            if holder not in ("", self._identity) and not self._expired(lease):
                self._seen_other = True
                return False
            await self._cluster.replace(self._path, {**lease, "spec": self._spec(spec)})
        except ApiError as error:
            if error.status != 409:
                logger.warning("Lease %s: %s", self._name, error)
            return False
        return True

    def _expired(self, lease: Object) -> bool:
        """By how long it has not changed before our eyes, whatever time it says itself."""
        version = lease["metadata"]["resourceVersion"]
        now = time.monotonic()
        if version != self._seen:
            self._seen, self._seen_at = version, now
        return now - self._seen_at >= float(lease["spec"].get("leaseDurationSeconds") or 0)

    def _spec(self, old: Object) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        mine = old.get("holderIdentity") == self._identity
        changes = int(old.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": old.get("acquireTime") if mine else now,
            "renewTime": now,
            "leaseTransitions": changes + (not mine and bool(old)),
        }

    async def _release(self) -> None:
        with suppress(ApiError):
            lease = await self._read()
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                await self._cluster.replace(self._path, {**lease, "spec": spec})

    async def _read(self) -> Object | None:
        try:
            return await self._cluster.get(self._path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    @property
    def _path(self) -> str:
        return f"{self._leases}/{self._name}"
