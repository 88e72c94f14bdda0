"""Scans of what runs: known to the audit, made again before they age out, dropped when unused."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from batten_operator.cluster import ApiError, Cluster
from batten_operator.facts import ImageFacts
from batten_operator.policies import Policies
from batten_operator.stored_scans import SCANS, StoredScans
from batten_webhooks.engine import NO_FACTS
from batten_webhooks.evidence.scans import Scans
from batten_webhooks.governance import Governed
from batten_webhooks.inquiry import Inquiry, inquire
from batten_webhooks.resources import ClusterScan
from batten_webhooks.rules import scanned_image
from batten_webhooks.rules.rule import Facts
from batten_webhooks.rules.scanned_image import Standing
from batten_webhooks.workload import Workload

ASK_SECONDS = 20.0
MOST_AT_ONCE, MOST_ASKED, MOST_USED = 4, 2_000, 50_000
# Of its greatest age: then a scan of what runs is made again.
RENEW_SHARE = 0.5
# What asked for a scan may be tried again as late as this.
UNUSED_SECONDS = 3600.0
# A registry that never answers keeps what nobody runs no longer than so many looks.
PATIENT_LOOKS = 20
# The sterner the later. Nothing is known yet of what is asked for with the next look.
STANDINGS: tuple[Standing | Literal["unknown"], ...] = ("passed", "unknown", "missing", "refused")


@dataclass
class RunningScans:
    """One look at the cluster begins with `begin`, and ends with `ask` for what was not known."""

    images: ImageFacts
    policies: Policies

    def __post_init__(self) -> None:
        self._asked: dict[tuple[str, ...], Inquiry] = {}
        self._using: set[str] = set()
        self._used: set[str] = set()
        self._standings: dict[str, Standing | Literal["unknown"]] = {}
        self._unused_since: dict[str, float] = {}
        self._looks = 0

    def begin(self) -> None:
        self._asked.clear()
        self._using = set()
        self._standings.clear()

    def facts(self, namespace: str, workload: Workload, governed: Governed) -> Facts:
        """What is at hand; what is not is asked for later, and judged with the next look."""
        asked = inquire(workload, namespace, governed)
        if asked is None or not asked.scan:
            return NO_FACTS
        inquiry = replace(asked, pin={}, read={})
        known = self.images.known(inquiry)
        if known is None:
            key = (namespace, *inquiry.scan)
            if len(self._asked) < MOST_ASKED:
                self._asked.setdefault(key, inquiry)
            self._count(workload, governed, dict.fromkeys(inquiry.scan))
            return NO_FACTS
        self._using.update(*(each.digests for each in (known.scans or {}).values()))
        self._count(workload, governed, known.scans or {})
        return Facts(scans=known.scans, now=time.time())

    def _count(
        self, workload: Workload, governed: Governed, found: Mapping[str, Scans | None]
    ) -> None:
        """An image that two policies judge counts as the sterner one says."""
        setting, now = governed.policy.setting(scanned_image.RULE), time.time()
        if setting is None:
            return
        for image, scans in found.items():
            said: Standing | Literal["unknown"] = "unknown"
            if scans is not None:
                said = scanned_image.standing(workload, image, scans, setting.parameters, now)
            before = self._standings.get(image, said)
            if image in self._standings or len(self._standings) < MOST_USED:
                self._standings[image] = max(before, said, key=STANDINGS.index)

    def standings(self) -> dict[str, int]:
        """How many images that run are known to stand how; every word is there, if with 0."""
        counted = Counter(self._standings.values())
        return {standing: counted[standing] for standing in STANDINGS}

    async def ask(self) -> None:
        self._used = self._using if len(self._using) < MOST_USED else set()
        room = asyncio.Semaphore(MOST_AT_ONCE)

        async def one(inquiry: Inquiry) -> None:
            async with room:
                await self.images.gather(inquiry, ASK_SECONDS)

        await asyncio.gather(*map(one, self._asked.values()))

    # --- scans on demand ------------------------------------------------------------------------

    def due(self, scan: ClusterScan) -> bool:
        """Whether what runs needs it soon."""
        if scan.evidence is None or self._used.isdisjoint(scan.digests):
            return False
        age = time.time() - scan.evidence.scanned
        return age > RENEW_SHARE * self._greatest_age(scan)

    async def drop_unused(self, cluster: Cluster, scans: StoredScans) -> None:
        """Those that were made on demand, of what runs no more, once they are too old to count;
        none while it is not known of everything what runs, unless that is never known. Raises
        ApiError.
        """
        self._looks = self._looks + 1 if self._asked else 0
        if 0 < self._looks < PATIENT_LOOKS:
            return
        now = time.time()
        requests = dict(scans.requests)
        for name in self._unused_since.keys() - requests.keys():
            del self._unused_since[name]
        for name, scan in requests.items():
            if not self._used.isdisjoint(scan.digests):
                self._unused_since.pop(name, None)
                continue
            since, patience = self._unused_since.setdefault(name, now), UNUSED_SECONDS
            if scan.evidence is not None:
                since, patience = scan.evidence.scanned, self._greatest_age(scan)
            if now - since > patience:
                await _delete(cluster, name)

    def _greatest_age(self, scan: ClusterScan) -> float:
        """By the strictest policy that lets images be scanned so."""
        template = scan.request.template if scan.request is not None else ""
        ages = [
            scanned_image.demands(setting.parameters).max_age
            for governing in self.policies.governance.policies
            if (setting := governing.policy.setting(scanned_image.RULE)) is not None
            and setting.parameters.scan_with == template
        ]
        return min(ages, default=scanned_image.demands(scanned_image.Parameters()).max_age)


async def _delete(cluster: Cluster, name: str) -> None:
    try:
        await cluster.delete(f"{SCANS}/{name}")
    except ApiError as error:
        if error.status != 404:
            raise
