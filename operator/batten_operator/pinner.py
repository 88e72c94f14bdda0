"""Digests for revisions that have none: those older than the installation, or made while it was
away. Each is pinned once; a webhook sees to the others when they are made.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster
from batten_operator.events import Events, of_revision
from batten_operator.facts import ImageFacts, path_of
from batten_operator.logs import fields
from batten_operator.policies import Policies
from batten_operator.scan import Reader, finished, governing_in, reader
from batten_webhooks.engine import evaluate
from batten_webhooks.images.bounded import Bounded
from batten_webhooks.inquiry import inquire, pins
from batten_webhooks.review import NamespaceUnknown, pins_of
from batten_webhooks.revision import REVISIONS, Revision, read_revision, written
from batten_webhooks.rules.rule import Facts
from batten_webhooks.workload import Kind, Malformed, Workload, read_pod

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 30.0
LOOK_UP_SECONDS = 20.0
# A revision whose images cannot be resolved is not tried again at once.
AGAIN_SECONDS = 60.0
MOST_FAILED = 10_000
# Of one namespace in one round: its registries may take their time, and others wait for theirs.
MOST_FAILURES = 3


@dataclass
class Pinner:
    """`exempt` are the namespaces that the webhooks leave alone."""

    cluster: Cluster
    policies: Policies
    images: ImageFacts
    budget: WriteBudget
    exempt: frozenset[str]
    events: Events

    def __post_init__(self) -> None:
        self._failed = Bounded[str, float](MOST_FAILED)

    async def run(self) -> NoReturn:
        while True:
            try:
                await self.look()
            except ApiError as error:
                logger.warning("revisions were not looked at: %s", error)
            except Exception:
                logger.exception("a defect: revisions were not looked at")
            await asyncio.sleep(INTERVAL_SECONDS)

    async def look(self) -> None:
        """Raises ApiError."""
        failures = Counter[str]()
        async with reader() as opened:
            governing = await governing_in(opened, self.policies.governance)
            for kind in REVISIONS:
                async for revision in self._unpinned(opened, kind):
                    namespace = revision.metadata.namespace or ""
                    if failures[namespace] >= MOST_FAILURES:
                        continue
                    try:
                        done = await self._pin(kind, revision, governing)
                    except (Malformed, NamespaceUnknown) as error:
                        logger.debug("revision not judged: %s", error)
                    else:
                        failures[namespace] += not done

    async def _unpinned(self, opened: Reader, kind: Kind) -> AsyncIterator[Revision]:
        """Those in use that lack a digest."""
        path = f"/apis/{kind.group}/v1/{kind.kind.lower()}s"
        async for page in opened.pages(path):
            for item in page.items or ():
                value = msgspec.json.decode(item)
                if not _in_use(value):
                    continue
                try:
                    revision = read_revision(kind, value)
                except Malformed:
                    continue
                namespace, uid = revision.metadata.namespace or "", revision.metadata.uid or ""
                waiting = time.monotonic() < self._failed.get(uid, 0.0)
                if namespace in self.exempt or waiting or not revision.unpinned:
                    continue
                yield revision

    async def _pin(self, kind: Kind, revision: Revision, governing: Any) -> bool:
        """Whether it has what it is to have. Raises ApiError, Malformed and NamespaceUnknown."""
        namespace = revision.metadata.namespace or ""
        workload = _workload(kind, revision)
        governed = governing(namespace, revision.template)
        if not pins(governed.policy):
            return True
        inquiry = inquire(workload, namespace, governed, revision.pins, judge=False)
        if inquiry is None or not inquiry.pin:
            return True
        inquiry = msgspec.structs.replace(inquiry, read={})
        found = await self.images.gather(inquiry, LOOK_UP_SECONDS)
        facts = Facts(digests=found.digests)
        verdict = evaluate(
            workload, governed.policy, facts, judge=False, exemptions=governed.exemptions
        )
        new = pins_of(workload, verdict)
        if verdict.unknowns:
            self._not_at_once(revision)
            for unknown in verdict.unknowns:
                self.events.tell(of_revision(kind, revision.metadata, unknown.detail))
        there = not new or await self._write(kind, revision, {**new, **revision.pins})
        return there and not verdict.unknowns

    def _not_at_once(self, revision: Revision) -> None:
        self._failed[revision.metadata.uid or ""] = time.monotonic() + AGAIN_SECONDS

    async def _write(self, kind: Kind, revision: Revision, digests: dict[str, str]) -> bool:
        """As long as it is what was read: whoever was faster has pinned it already. What the API
        server says of this one says nothing of others. Raises ApiError where it says nothing."""
        metadata = revision.metadata
        path = path_of(kind, metadata.namespace or "", metadata.name or "")
        change = {
            "resourceVersion": metadata.resourceVersion,
            "annotations": {revision.key: written(digests)},
        }
        await self.budget.take()
        try:
            await self.cluster.merge(path, {"metadata": change})
        except ApiError as error:
            if not error.status:
                raise
            if error.status not in (404, 409):
                self._not_at_once(revision)
                logger.warning("revision not pinned: %s", error)
            return error.status in (404, 409)
        logger.info(
            "revision pinned",
            extra=fields(kind=kind.kind, namespace=metadata.namespace, name=metadata.name),
        )
        return True


def _workload(kind: Kind, revision: Revision) -> Workload:
    return read_pod(revision.template, kind=kind.kind, prefix="/spec/template")


def _in_use(value: dict[str, Any]) -> bool:
    """Whether it may make Pods: a ReplicaSet of none is one to go back to, a Job may have ended."""
    return (value.get("spec") or {}).get("replicas") != 0 and not finished(value)
