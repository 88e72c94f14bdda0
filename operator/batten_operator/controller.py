"""The one controller of a cluster: it judges what runs, again and again, and writes what it finds.

Statuses, reports, metrics and events; a Lease picks who writes, and nobody writes more than five
times a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import NoReturn

from batten_operator import reports, status
from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster
from batten_operator.events import Events, of_running
from batten_operator.facts import ImageFacts
from batten_operator.lease import Lease
from batten_operator.metrics import Metrics
from batten_operator.pinner import Pinner
from batten_operator.policies import Policies
from batten_operator.running_scans import RunningScans
from batten_operator.scan import Scan, governing_in, reader
from batten_operator.scanner import Scanner
from batten_operator.settings import Settings
from batten_operator.stored_scans import StoredScans
from batten_webhooks.audit import Audit, Owner
from batten_webhooks.governance import ALWAYS_EXEMPT, Governance
from batten_webhooks.rules import RULES, scanned_image

logger = logging.getLogger(__name__)

LEASE = "batten-controller"
# The Lease takes half a write a second and the events of refusals one, so that even webhooks and
# controller in one process stay below five.
WRITES_PER_SECOND = 3.0
INTERVAL_SECONDS = 60.0
# A cluster that takes long to read is read more rarely: at most a tenth of the time.
REST = 10.0
# Where it could not be judged, or not all was written.
AGAIN_SECONDS = 5.0
WRITING_SECONDS = 60.0
# Policies that are changed one after another are judged together.
SETTLE_SECONDS = 2.0
RULE_NAMES = tuple(rule.name for rule in RULES)


class Controller:
    def __init__(
        self,
        cluster: Cluster,
        policies: Policies,
        metrics: Metrics,
        settings: Settings,
        identity: str,
    ) -> None:
        self._cluster = cluster
        self._policies = policies
        self._metrics = metrics
        self._budget = WriteBudget(WRITES_PER_SECOND)
        self._events = Events(cluster, self._budget, identity)
        self._lease = Lease(cluster, settings.namespace, LEASE, identity)
        self._exempt = ALWAYS_EXEMPT | settings.exempt_namespaces | {settings.namespace}
        self._pinner: Pinner | None = None
        self._scanner: Scanner | None = None
        self._running: RunningScans | None = None
        self._stored = StoredScans(cluster, settings.namespace)
        self._namespace = settings.namespace
        self._bad: set[tuple[Owner, str]] = set()
        self._judged = policies.governance
        self._woken = asyncio.Event()
        self._rest = 0.0
        self._soon: asyncio.TimerHandle | None = None

    def look_up(self, images: ImageFacts, scans: StoredScans) -> None:
        """Where it leads it sees to revisions without digests and to images without scans, too."""
        self._pinner = Pinner(
            self._cluster, self._policies, images, self._budget, self._exempt, self._events
        )
        self._running = RunningScans(images, self._policies)
        self._stored = scans
        scans.changed = self._scanned
        self._scanner = Scanner(
            self._cluster,
            self._namespace,
            scans,
            self._budget,
            self._events,
            images.keyring,
            self._running.due,
        )

    def wake(self, governance: Governance) -> None:
        """Policies were read again."""
        if governance is not self._judged:
            self._woken.set()

    def _scanned(self) -> None:
        """What scanners say has changed: what runs is judged soon, for many changes once."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(self._rest, self._woken.set)

    async def run(self) -> NoReturn:
        await self._policies.read.wait()
        await self._lease.run(self._lead)

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events.run())
            group.create_task(self._look_again())
            if self._pinner is not None:
                group.create_task(self._pinner.run())
            if self._scanner is not None:
                group.create_task(self._scanner.run())

    async def _look_again(self) -> NoReturn:
        while True:
            self._judged = self._policies.governance
            pause = AGAIN_SECONDS
            try:
                if await self._look(self._judged):
                    pause = INTERVAL_SECONDS
            except ApiError as error:
                logger.warning("the cluster was not judged: %s", error)
            except Exception:
                logger.exception("a defect: the cluster was not judged")
            await self._wait(max(pause, self._rest))

    async def _wait(self, seconds: float) -> None:
        """Until something else governs, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
                await asyncio.sleep(SETTLE_SECONDS)
        self._woken.clear()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    async def _look(self, governance: Governance) -> bool:
        """Whether all that was found is written. Raises ApiError."""
        started = time.monotonic()
        try:
            scan, audit = await self._judge(governance)
        finally:
            self._rest = REST * (time.monotonic() - started)
        for problem in audit.problems:
            logger.warning("not judged: %s", problem)
        self._metrics.audited(audit)
        if self._running is not None:
            self._metrics.scanned(self._running.standings())
        for event in await status.write(
            self._cluster, self._budget, self._policies, audit, time.time()
        ):
            self._events.tell(event)
        self._tell_of_images(audit, scan.owners)
        written = await reports.write(self._cluster, self._budget, scan, audit, WRITING_SECONDS)
        if self._running is not None:
            await self._running.ask()
            if scan.unread is None:
                await self._running.drop_unused(self._cluster, self._stored)
        return written

    async def _judge(self, governance: Governance) -> tuple[Scan, Audit]:
        """Raises ApiError where the API server went away meanwhile: who judged the part of a
        cluster would take the rest for gone."""
        async with reader() as opened:
            governing = await governing_in(opened, governance)
            scan = Scan(opened, governing, RULE_NAMES, exempt=self._exempt)
            if self._running is not None:
                self._running.begin()
                scan.facts = self._running.facts
            audit = await scan.run()
        if scan.unread is not None and scan.unread.passing:
            raise scan.unread
        return scan, audit

    def _tell_of_images(self, audit: Audit, owners: list[Owner]) -> None:
        """An Event of what runs and would be refused by now, once."""
        bad: dict[tuple[Owner, str], str] = {}
        for owner, result in zip(owners, audit.workloads, strict=True):
            for remark in result.remarks if result.pods else ():
                if remark.rule == scanned_image.RULE.name and remark.outcome == "refused":
                    bad[owner, remark.container] = remark.detail
        for key in bad.keys() - self._bad:
            subject = f'container "{key[1]}": ' if key[1] else ""
            self._events.tell(of_running(key[0], f"{subject}{bad[key]}"))
        self._bad = set(bad)
