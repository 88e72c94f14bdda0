"""The scans that the cluster holds: ImageScans and Trivy Operator's reports, found by digest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, NoReturn

from batten_operator.cluster import Cluster
from batten_operator.informer import Informer, Key
from batten_operator.logs import fields
from batten_webhooks.authorship import WRITTEN_BY
from batten_webhooks.evidence.collect import Stored
from batten_webhooks.evidence.model import ScanEvidence, Unreadable
from batten_webhooks.evidence.readers import read_report
from batten_webhooks.resources import ClusterScan, Invalid, read_image_scan
from batten_webhooks.resources.model import API_VERSION, GROUP, VERSION

logger = logging.getLogger(__name__)

SCANS = f"/apis/{GROUP}/{VERSION}/imagescans"
REPORTS = "/apis/aquasecurity.github.io/v1alpha1"
KINDS = {
    "ImageScan": SCANS,
    "VulnerabilityReport": f"{REPORTS}/vulnerabilityreports",
    "ClusterVulnerabilityReport": f"{REPORTS}/clustervulnerabilityreports",
}
# Of each kind. What is beyond is told in the log, and does not count.
MOST = 50_000


class StoredScans:
    """`version` differs whenever anything that counts does."""

    def __init__(self, cluster: Cluster) -> None:
        self.version = 0
        self.requests: dict[str, ClusterScan] = {}
        self._stored: dict[tuple[str, Key], Stored] = {}
        self._by_digest: dict[str, set[tuple[str, Key]]] = {}
        self._informers = [
            Informer(cluster, path, partial(self._take, kind), partial(self._gone, kind))
            for kind, path in KINDS.items()
        ]

    async def run(self) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run())
        raise AssertionError("informers never end")

    async def read(self) -> None:
        """Returns once all were read for the first time."""
        for informer in self._informers:
            await informer.listed.wait()

    def of(self, digests: Iterable[str]) -> list[Stored]:
        """Those of any of the digests, in the order of their names."""
        keys = {key for digest in digests for key in self._by_digest.get(digest, ())}
        return [self._stored[key] for key in sorted(keys)]

    def _take(self, kind: str, key: Key, item: Any) -> None:
        self._gone(kind, key)
        try:
            evidence = self._scan(item) if kind == "ImageScan" else read_report(item)
        except (Invalid, Unreadable) as error:
            logger.warning(
                "scan not read",
                extra=fields(resource=kind, namespace=key[0], name=key[1], error=str(error)),
            )
            return
        if evidence is None:
            return
        if len(self._stored) >= MOST:
            logger.error("more than %d scans: %s does not count", MOST, "/".join(key))
            return
        author = str((item["metadata"].get("annotations") or {}).get(WRITTEN_BY) or "")
        self._stored[kind, key] = Stored(kind, key[1], key[0], author, evidence)
        for digest in evidence.digests:
            self._by_digest.setdefault(digest, set()).add((kind, key))

    def _scan(self, item: Any) -> ScanEvidence | None:
        scan = read_image_scan({"apiVersion": API_VERSION, "kind": "ImageScan", **item})
        if scan.request is not None:
            self.requests[scan.name] = scan
        return scan.evidence

    def _gone(self, kind: str, key: Key) -> None:
        self.version += 1
        if kind == "ImageScan":
            self.requests.pop(key[1], None)
        stored = self._stored.pop((kind, key), None)
        for digest in stored.evidence.digests if stored is not None else ():
            keys = self._by_digest[digest]
            keys.discard((kind, key))
            if not keys:
                del self._by_digest[digest]
