"""The scans that the cluster holds: ImageScans and Trivy Operator's reports, found by digest."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

from batten_operator.cluster import Cluster
from batten_operator.informer import Informer, Key
from batten_operator.logs import fields
from batten_webhooks.authorship import WRITTEN_BY
from batten_webhooks.evidence.collect import Stored, trusted
from batten_webhooks.evidence.model import ScanEvidence, Unreadable
from batten_webhooks.evidence.readers import read_report
from batten_webhooks.messages import printable
from batten_webhooks.resources import ClusterScan, Invalid, read_image_scan
from batten_webhooks.resources.model import API_VERSION, GROUP, VERSION
from batten_webhooks.rules.scanned_image import Source

logger = logging.getLogger(__name__)

SCANS = f"/apis/{GROUP}/{VERSION}/imagescans"
REPORTS = "/apis/aquasecurity.github.io/v1alpha1"
KINDS = {
    "ImageScan": SCANS,
    "VulnerabilityReport": f"{REPORTS}/vulnerabilityreports",
    "ClusterVulnerabilityReport": f"{REPORTS}/clustervulnerabilityreports",
}
# What is held, scans and their vulnerabilities, in all and of one namespace, whose own may write
# reports: nobody's keep others' out. What is beyond is told in the log, and does not count.
MOST_SCANS, MOST_SCANS_OF_ONE = 50_000, 5_000
MOST_FOUND, MOST_FOUND_OF_ONE = 250_000, 60_000


# Of one image, from one namespace.
MOST_OF_IMAGE = 20


def author_of(item: Any) -> str:
    """Who wrote what a scan says, "" where nobody knows."""
    return str((item["metadata"].get("annotations") or {}).get(WRITTEN_BY) or "")


def is_own(item: Any, namespace: str) -> bool:
    """Whether the operator wrote it, from its Namespace.

    Whoever else may write an ImageScan would have its request read Secrets that are not his, run
    any PodTemplate, and what is found vouched for by us.
    """
    return author_of(item).startswith(f"system:serviceaccount:{namespace}:")


class StoredScans:
    """`requests` are the scans that the operator asked for itself, from `namespace`. `changed` is
    called whenever anything that counts is different."""

    def __init__(self, cluster: Cluster, namespace: str = "") -> None:
        self.changed: Callable[[], object] = lambda: None
        self._namespace = namespace
        self._changes = 0
        self._changed: dict[str, int] = {}
        self.requests: dict[str, ClusterScan] = {}
        self._stored: dict[tuple[str, Key], Stored] = {}
        self._by_digest: dict[str, set[tuple[str, Key]]] = {}
        self._scans, self._held = Counter[str](), Counter[str]()
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

    def of(self, digests: Iterable[str], sources: Sequence[Source] = ()) -> list[Stored]:
        """Those of any of the digests, in the order of their names. Of one namespace the newest few
        that a source trusts, and as few others, which keep none of these out."""
        keys = {key for digest in digests for key in self._by_digest.get(digest, ())}
        counted = Counter[tuple[str, bool]]()
        found = []
        newest = sorted(keys, key=lambda key: (-self._stored[key].evidence.scanned, key))
        for key in newest:
            stored = self._stored[key]
            place = stored.namespace, trusted(stored, sources)
            counted[place] += 1
            if not stored.namespace or counted[place] <= MOST_OF_IMAGE:
                found.append(key)
        return [self._stored[key] for key in sorted(found)]

    def version(self, digests: Iterable[str]) -> tuple[int, ...]:
        """It differs whenever anything that is stored of the digests does."""
        return tuple(self._changed.get(digest, 0) for digest in digests)

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
        if not self._fits(key[0], len(evidence.vulnerabilities)):
            logger.error(
                "too many scans: one does not count",
                extra=fields(resource=kind, namespace=key[0], name=key[1]),
            )
            return
        self._count(key[0], 1, len(evidence.vulnerabilities))
        self._stored[kind, key] = Stored(kind, key[1], key[0], author_of(item), evidence)
        self._changes += 1
        for digest in evidence.digests:
            self._by_digest.setdefault(digest, set()).add((kind, key))
            self._changed[digest] = self._changes
        self.changed()

    def _fits(self, namespace: str, found: int) -> bool:
        scans, held = len(self._stored), self._held[""] + found
        if scans >= MOST_SCANS or held > MOST_FOUND:
            return False
        own = self._scans[namespace] < MOST_SCANS_OF_ONE
        return not namespace or (own and self._held[namespace] + found <= MOST_FOUND_OF_ONE)

    def _count(self, namespace: str, scans: int, found: int) -> None:
        """Under no name what is of the whole cluster."""
        self._held[""] += found
        if namespace:
            self._held[namespace] += found
            self._scans[namespace] += scans
            if not self._scans[namespace]:
                del self._scans[namespace], self._held[namespace]

    def _scan(self, item: Any) -> ScanEvidence | None:
        scan = read_image_scan({"apiVersion": API_VERSION, "kind": "ImageScan", **item})
        if scan.request is not None and is_own(item, self._namespace):
            self.requests[scan.name] = scan
        elif scan.request is not None:
            author = printable(author_of(item)) or "nobody knows whom"
            logger.warning("scan asked for by others", extra=fields(name=scan.name, author=author))
        return scan.evidence

    def _gone(self, kind: str, key: Key) -> None:
        if kind == "ImageScan":
            self.requests.pop(key[1], None)
        stored = self._stored.pop((kind, key), None)
        if stored is None:
            return
        self._count(key[0], -1, -len(stored.evidence.vulnerabilities))
        self._changes += 1
        for digest in stored.evidence.digests:
            keys = self._by_digest[digest]
            keys.discard((kind, key))
            self._changed[digest] = self._changes
            if not keys:
                del self._by_digest[digest], self._changed[digest]
        self.changed()
