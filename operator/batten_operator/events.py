"""Events (events.k8s.io/v1) of what is refused, ends or fails: few, and never waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster, Object
from batten_webhooks.audit import Owner
from batten_webhooks.review import Answer
from batten_webhooks.workload import Kind, Metadata

logger = logging.getLogger(__name__)

# More that wait to be written are dropped: an event is a help, not a record.
MOST_WAITING = 100
# The same is told once in this time, and no more different things are remembered.
AGAIN_SECONDS = 300.0
MOST_REMEMBERED = 1_000
NOTE_LENGTH = 1024  # of the API
CONTROLLER = "batten.dev/operator"


@dataclass(frozen=True, slots=True)
class Event:
    """`regarding` is an ObjectReference; what is cluster-scoped is told of in `default`."""

    namespace: str
    regarding: tuple[tuple[str, str], ...]
    reason: str
    action: str
    note: str


class Events:
    """`instance` tells which of the replicas wrote an event."""

    def __init__(self, cluster: Cluster, budget: WriteBudget, instance: str) -> None:
        self._cluster = cluster
        self._budget = budget
        self._instance = instance
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MOST_WAITING)
        self._told: OrderedDict[Event, float] = OrderedDict()

    def denied(self, answer: Answer) -> None:
        """Of what somebody named and meant: no dry run, and no Pod that a controller will retry."""
        unmeant = answer.dry_run or answer.controlled
        if answer.allowed or unmeant or not answer.name or not answer.namespace:
            return
        regarding = _reference(answer.api_version, answer.kind, answer.namespace, answer.name)
        self.tell(Event(answer.namespace, regarding, "PolicyViolation", "Deny", answer.message))

    def tell(self, event: Event) -> None:
        """Drops what was told of late, and what is too much."""
        now = time.monotonic()
        if now - self._told.get(event, -AGAIN_SECONDS) < AGAIN_SECONDS or self._waiting.full():
            return
        self._told[event] = now
        self._told.move_to_end(event)
        if len(self._told) > MOST_REMEMBERED:
            self._told.popitem(last=False)
        self._waiting.put_nowait(event)

    async def run(self) -> NoReturn:
        while True:
            event = await self._waiting.get()
            await self._budget.take()
            try:
                path = f"/apis/events.k8s.io/v1/namespaces/{event.namespace}/events"
                await self._cluster.create(path, self._value(event))
            except ApiError as error:
                logger.info("event not written: %s", error)

    def _value(self, event: Event) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": "batten-", "namespace": event.namespace},
            "eventTime": now,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance[:128],
            "action": event.action,
            "reason": event.reason,
            "type": "Warning",
            "regarding": dict(event.regarding),
            "note": _cut(event.note),
        }


def _reference(
    api_version: str, kind: str, namespace: str, name: str
) -> tuple[tuple[str, str], ...]:
    place = (("namespace", namespace),) if namespace else ()
    return (("apiVersion", api_version), ("kind", kind), *place, ("name", name))


def of_exception(name: str, uid: str, note: str) -> Event:
    """Of a HardeningException that ends soon."""
    regarding = _reference("batten.dev/v1alpha1", "HardeningException", "", name)
    return Event("default", (*regarding, ("uid", uid)), "ExpiresSoon", "Expire", note)


def of_scan(name: str, note: str) -> Event:
    """Of an ImageScan that could not be made."""
    regarding = _reference("batten.dev/v1alpha1", "ImageScan", "", name)
    return Event("default", regarding, "ScanFailed", "Scan", note)


def of_running(owner: Owner, note: str) -> Event:
    """Of a workload that runs an image which would not be let in any more."""
    regarding = _reference(owner.api_version, owner.kind, owner.namespace, owner.name)
    return Event(
        owner.namespace, (*regarding, ("uid", owner.uid)), "ImageNotAcceptable", "Scan", note
    )


def of_revision(kind: Kind, metadata: Metadata, note: str) -> Event:
    """Of a ReplicaSet, ControllerRevision or Job whose images have no digests yet."""
    namespace, name = metadata.namespace or "", metadata.name or ""
    regarding = _reference(f"{kind.group}/v1", kind.kind, namespace, name)
    uid = ("uid", metadata.uid or "")
    return Event(namespace, (*regarding, uid), "NotPinned", "Pin", note)


def _cut(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= NOTE_LENGTH:
        return text
    return encoded[: NOTE_LENGTH - 3].decode(errors="ignore") + "…"
