"""All objects of one kind, told one by one: from a list, page by page, and a watch after it.

Nothing is kept but which objects there are, so that a list of ten thousand large ones costs no
memory; whoever is told keeps what he needs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from secrets import SystemRandom
from typing import Any, NoReturn

import msgspec

from batten_operator.cluster import ApiError, Cluster, Object

logger = logging.getLogger(__name__)

# One is of a megabyte at most, and webhooks have 256 of them.
PAGE = 20
RETRY_SECONDS = (1.0, 30.0)
# Until the kind is defined.
ABSENT_SECONDS = 15.0
EXPIRED = 410
# By namespace and name.
Key = tuple[str, str]


class Informer:
    """`taken` is called with each object that is new or changed, `gone` with the key of each that
    is no more. `listed` is set once all were told for the first time, or there is no such kind."""

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        taken: Callable[[Key, Object], object],
        gone: Callable[[Key], object],
    ) -> None:
        self._cluster = cluster
        self._path = path
        self._taken = taken
        self._gone = gone
        self._versions: dict[Key, str] = {}
        self.listed = asyncio.Event()

    async def run(self) -> NoReturn:
        failures = 0
        while True:
            try:
                version = await self._list()
                self.listed.set()
                failures = 0
                await self._follow(version)
                continue
            except ApiError as error:
                if error.status == 404:
                    self._keep(set())
                    self.listed.set()
                    await asyncio.sleep(ABSENT_SECONDS)
                    continue
                if error.status != EXPIRED:
                    logger.warning("%s; what was read last counts", error)
            except Exception:
                logger.exception("a defect: %s is not followed for a while", self._path)
            first, most = RETRY_SECONDS
            failures = min(failures + 1, 10)
            await asyncio.sleep(SystemRandom().uniform(0.5, 1.0) * min(most, first * 2**failures))

    async def _list(self) -> str:
        """The resourceVersion that the list is of. Raises ApiError."""
        seen: set[Key] = set()
        token = version = ""
        while True:
            page = await self._cluster.page(self._path, PAGE, token)
            for item in page.items or ():
                seen.add(self._take(msgspec.json.decode(item)))
                await asyncio.sleep(0)  # reviews and the Lease wait for one of them at most
            version, token = page.metadata.version, page.metadata.token
            if not token:
                self._keep(seen)
                return version

    async def _follow(self, version: str) -> None:
        """Raises ApiError; its status is 410 where a list has to be made anew. A watch that ends at
        once is not begun anew at once."""
        while True:
            begun = time.monotonic()
            async for event in self._cluster.watch(self._path, version):
                value: Any = event.get("object") or {}
                if event.get("type") == "ERROR":
                    raise ApiError(
                        f"GET {self._path}: {value.get('message')}", int(value.get("code") or 0)
                    )
                version = value["metadata"]["resourceVersion"]
                if event.get("type") == "DELETED":
                    self._drop(_key(value))
                elif event.get("type") != "BOOKMARK":
                    self._take(value)
            await asyncio.sleep(max(0.0, begun + RETRY_SECONDS[0] - time.monotonic()))

    def _take(self, item: Object) -> Key:
        key, version = _key(item), item["metadata"]["resourceVersion"]
        if self._versions.get(key) != version:
            self._versions[key] = version
            self._taken(key, item)
        return key

    def _keep(self, seen: set[Key]) -> None:
        for key in self._versions.keys() - seen:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        if self._versions.pop(key, None) is not None:
            self._gone(key)


def _key(item: Object) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace") or "", metadata["name"]
