"""The scans that a cluster holds of an image, for `batten evidence verify`: listed page by page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import msgspec

from batten_operator.cluster import ApiError
from batten_operator.scan import Reader, reader
from batten_operator.stored_scans import KINDS
from batten_webhooks.authorship import WRITTEN_BY
from batten_webhooks.cli import CannotRun
from batten_webhooks.evidence.collect import Outcome
from batten_webhooks.evidence.collect import Stored as One
from batten_webhooks.evidence.model import Unreadable
from batten_webhooks.evidence.readers import read_report
from batten_webhooks.evidence.scans import Rejected
from batten_webhooks.resources import Invalid, read_image_scan
from batten_webhooks.resources.model import API_VERSION

# One is of a megabyte at most.
PAGE = 50
SOURCES = {
    "ImageScan": "ImageScan",
    "VulnerabilityReport": "VulnerabilityReport",
    "ClusterVulnerabilityReport": "VulnerabilityReport",
}


class Stored:
    """Of these kinds of sources, in the cluster of a context of the kubeconfig file."""

    def __init__(self, context: str, sources: Collection[str]) -> None:
        self._context = context
        self._kinds = [kind for kind, source in SOURCES.items() if source in sources]

    def of(self, digests: frozenset[str]) -> tuple[Sequence[One], Sequence[Outcome]]:
        """Those of any of the digests, and what could not be read. Raises CannotRun."""
        try:
            return asyncio.run(self._read(digests))
        except ApiError as error:
            raise CannotRun(f"the cluster cannot be read: {error}") from None

    async def _read(self, digests: frozenset[str]) -> tuple[list[One], list[Outcome]]:
        found: list[One] = []
        unread: list[Outcome] = []
        async with reader(self._context) as opened:
            for kind in self._kinds:
                try:
                    found += [each async for each in _each(opened, kind, digests)]
                except ApiError as error:
                    if error.status != 404:  # the kind is not installed
                        told = f"cannot be read: {error}"
                        unread.append(Rejected(f"the cluster's {kind}s", "unavailable", told))
        return found, unread


async def _each(opened: Reader, kind: str, digests: frozenset[str]) -> AsyncIterator[One]:
    async for page in opened.pages(KINDS[kind], limit=PAGE):
        for item in page.items or ():
            each = _stored(kind, msgspec.json.decode(item))
            if each is not None and not digests.isdisjoint(each.evidence.digests):
                yield each


def _stored(kind: str, item: dict[str, Any]) -> One | None:
    """None for what cannot be read, as in the webhooks, or was not scanned yet."""
    try:
        if kind == "ImageScan":
            item = {"apiVersion": API_VERSION, "kind": kind, **item}
            evidence = read_image_scan(item).evidence
        else:
            item = {"apiVersion": "aquasecurity.github.io/v1alpha1", "kind": kind, **item}
            evidence = read_report(item)
    except (Invalid, Unreadable):
        return None
    if evidence is None:
        return None
    metadata = item["metadata"]
    author = str((metadata.get("annotations") or {}).get(WRITTEN_BY) or "")
    return One(kind, metadata["name"], metadata.get("namespace") or "", author, evidence)
