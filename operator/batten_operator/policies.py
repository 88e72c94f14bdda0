"""What governs, kept fresh: policies, exceptions and the labels of Namespaces.

Every change makes a whole new snapshot from a list of the API server's, so that nothing depends on
having seen every event. What cannot be read leaves the last good one in force.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import quote

from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.logs import fields
from batten_webhooks.governance import Exemption, Governance, GoverningPolicy
from batten_webhooks.inquiry import Source
from batten_webhooks.policy import Policy
from batten_webhooks.resources import Invalid, read_exception, read_policy
from batten_webhooks.resources.model import GROUP, VERSION
from batten_webhooks.review import Known
from batten_webhooks.selectors import Labels
from batten_webhooks.workload import Kind

logger = logging.getLogger(__name__)

ROOT = f"/apis/{GROUP}/{VERSION}"
POLICIES, EXCEPTIONS = "hardeningpolicies", "hardeningexceptions"
# A watch that was cut tells of what is there by then, and of nothing that was deleted meanwhile.
RESYNC_SECONDS = 60.0
RETRY_SECONDS = (0.5, 30.0)
# Until the definitions are there; then the watches have to begin anew.
ABSENT_SECONDS = 5.0
# What one apply changes together is read together.
GATHER_SECONDS = 0.1
LOOK_UP_SECONDS = 3.0

T = TypeVar("T")
Told = Callable[[Governance], None]


@dataclass
class _Kind(Generic[T]):
    """The objects of one kind as they were read last, by name; what is unchanged is not read
    again."""

    plural: str
    read: Callable[[Any], T]
    versions: dict[str, tuple[str, int]] = field(default_factory=dict)
    good: dict[str, T] = field(default_factory=dict)
    invalid: dict[str, Invalid] = field(default_factory=dict)

    def knows(self, metadata: Mapping[str, Any]) -> bool:
        return self.versions.get(metadata.get("name", "")) == _version(metadata)

    def take(self, items: list[Object]) -> bool:
        """Whether anything differs from what was taken before."""
        found = {item["metadata"]["name"]: item for item in items}
        gone = self.versions.keys() - found.keys()
        for name in gone:
            for known in (self.versions, self.good, self.invalid):
                known.pop(name, None)
        fresh = [name for name, item in found.items() if not self.knows(item["metadata"])]
        for name in fresh:
            self._read(name, found[name])
        return bool(gone or fresh)

    def _read(self, name: str, item: Object) -> None:
        version = _version(item["metadata"])
        if self.versions.get(name, ("",))[0] != version[0]:
            self.good.pop(name, None)  # another object of the same name
        self.versions[name] = version
        try:
            self.good[name] = self.read(item)
            self.invalid.pop(name, None)
        except Invalid as error:
            self.invalid[name] = error
            logger.error(
                "not valid; %s",
                "the last good one stays in force" if name in self.good else "it is not in force",
                extra=fields(resource=self.plural, name=name, errors=str(error)),
            )


def _version(metadata: Mapping[str, Any]) -> tuple[str, int]:
    return metadata.get("uid", ""), metadata.get("generation", 0)


class Policies:
    """`default` governs what no policy matches."""

    def __init__(
        self,
        default: Policy,
        paths: Mapping[Kind, tuple[str, ...]],
        cluster: Cluster | None = None,
    ) -> None:
        self._paths = paths
        self._cluster = cluster
        self._told: list[Told] = []
        self._default = default
        self._policies = _Kind[GoverningPolicy](POLICIES, read_policy)
        self._exceptions = _Kind[Exemption](EXCEPTIONS, read_exception)
        self._namespaces: dict[str, Labels] = {}
        self._look_ups: dict[str, asyncio.Future[Labels]] = {}
        self._woken = asyncio.Event()
        self._unknown: set[str] = set()
        self.governance = Governance(default)
        self.read = asyncio.Event()  # set once all was read for the first time

    def known(self, images: Source | None = None) -> Known:
        """What a review of this moment is answered with."""
        return Known(
            self.governance,
            time.time(),
            self._namespaces,
            images=images,
            blind=images is None,
            paths=self._paths,
        )

    def subscribe(self, told: Told) -> None:
        """It is called with what governs whenever the API server was asked for it."""
        self._told.append(told)

    # --- policies and exceptions ----------------------------------------------------------------

    def wake(self, plural: str, metadata: Mapping[str, Any], *, deleted: bool) -> None:
        """One of ours was changed, or perhaps only its status was."""
        if deleted or not self.knows(plural, metadata):
            self._woken.set()

    def knows(self, plural: str, metadata: Mapping[str, Any]) -> bool:
        """Whether this very version of the object was read."""
        return (self._policies if plural == POLICIES else self._exceptions).knows(metadata)

    def unknown(self, plural: str) -> None:
        """One of ours was reviewed that was not defined when the watches began."""
        if plural not in self._unknown:
            self._unknown.add(plural)
            self._woken.set()

    async def run(self, appeared: Callable[[], object]) -> NoReturn:
        """`appeared` is called where the definitions of our kinds were not there and now are."""
        failures, absent = 0, False
        while True:
            pause = RESYNC_SECONDS
            try:
                await self._look()
                failures = 0
                if absent or await self._defined():
                    self._unknown.clear()
                    appeared()
                absent = False
                if self._unknown:
                    pause = ABSENT_SECONDS
            except ApiError as error:
                if error.status == 404:
                    if not absent:
                        logger.warning("no HardeningPolicies are defined here: the default governs")
                    absent, pause = True, ABSENT_SECONDS
                    self.read.set()
                else:
                    first, most = RETRY_SECONDS
                    pause, failures = min(most, first * 2**failures), min(failures + 1, 10)
                    logger.warning(
                        "%s; what was read last governs, trying again in %.1f s", error, pause
                    )
            except Exception:
                pause = RETRY_SECONDS[1]
                logger.exception("a defect: policies are not read for a while")
            await self._wait(pause)

    async def _defined(self) -> bool:
        """Whether one of the unknown kinds is defined after all. Raises ApiError."""
        if not self._unknown:
            return False
        assert self._cluster is not None  # noqa: S101 - whoever runs this has one
        served = (await self._cluster.get(ROOT))["resources"]
        return any(resource["name"] in self._unknown for resource in served)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
                await asyncio.sleep(GATHER_SECONDS)
        self._woken.clear()

    async def _look(self) -> None:
        """Raises ApiError."""
        assert self._cluster is not None  # noqa: S101 - whoever runs this has one
        lists = [await self._cluster.get(f"{ROOT}/{each}") for each in (POLICIES, EXCEPTIONS)]
        changed = self._policies.take(lists[0]["items"])
        changed |= self._exceptions.take(lists[1]["items"])
        if changed or not self.read.is_set():
            self.governance = Governance(
                self._default, self._policies.good.values(), self._exceptions.good.values()
            )
            logger.info(
                "policies read",
                extra=fields(
                    policies=len(self._policies.good), exceptions=len(self._exceptions.good)
                ),
            )
        for told in self._told:
            told(self.governance)
        self.read.set()

    @property
    def invalid(self) -> dict[tuple[str, str], Invalid]:
        """What is wrong with objects that were stored all the same, by plural and name."""
        return {
            (kind.plural, name): error
            for kind in (self._policies, self._exceptions)
            for name, error in kind.invalid.items()
        }

    # --- the labels of Namespaces ---------------------------------------------------------------

    def namespace(self, name: str, labels: Labels | None) -> None:
        """What a watch tells; no labels at all where the Namespace is gone."""
        if labels is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = labels

    def forget_namespaces(self) -> None:
        """Nobody watches them any more: each is looked up when it is needed."""
        self._namespaces.clear()

    async def look_up(self, name: str, seconds: float = LOOK_UP_SECONDS) -> None:
        """Read one Namespace live, within so many seconds. Raises ApiError; many who ask at once
        make one call."""
        if self._cluster is None:
            raise ApiError("no API server to look Namespaces up with")
        asked = self._look_ups.get(name)
        if asked is None:
            asked = self._look_ups[name] = asyncio.ensure_future(self._labels(self._cluster, name))
            asked.add_done_callback(lambda _: self._look_ups.pop(name, None))
        try:
            async with asyncio.timeout(seconds):
                labels = await asyncio.shield(asked)
        except TimeoutError:
            raise ApiError(f"Namespace {name!r}: no answer in {seconds:.2g} s") from None
        self._namespaces.setdefault(name, labels)

    async def _labels(self, cluster: Cluster, name: str) -> Labels:
        found = await cluster.get(f"/api/v1/namespaces/{quote(name, safe='')}")
        labels: Labels = found["metadata"].get("labels") or {}
        return labels
