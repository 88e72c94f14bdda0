"""What webhooks have seen that nobody has scanned: an ImageScan for the controller to fill.

Its name is the digest's and the repository's, so that many who ask make one, and nobody keeps
others waiting with a repository of his own. Never waited for, and few a second.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable
from hashlib import sha256
from typing import NoReturn

from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.logs import fields
from batten_operator.stored_scans import SCANS
from batten_webhooks.images.bounded import Bounded
from batten_webhooks.inquiry import WantedScan
from batten_webhooks.reference import parse_reference
from batten_webhooks.resources.image_scan import MOST_SECRETS
from batten_webhooks.resources.model import API_VERSION

logger = logging.getLogger(__name__)

# More that wait to be written are dropped: whoever is refused tries again.
MOST_WAITING = 200
# What was asked for is not asked for again so soon.
AGAIN_SECONDS = 30.0
MOST_REMEMBERED = 2_000
_NAME = re.compile(r"(sha256-[a-f0-9]{64}|sha512-[a-f0-9]{128})-[a-f0-9]{8}")


class ScanRequests:
    def __init__(self, cluster: Cluster, budget: WriteBudget) -> None:
        self._cluster = cluster
        self._budget = budget
        self._waiting: asyncio.Queue[WantedScan] = asyncio.Queue(MOST_WAITING)
        self._asked = Bounded[str, float](MOST_REMEMBERED)

    def want(self, scans: Iterable[WantedScan]) -> None:
        """Drops what was asked for of late, and what is too much."""
        now = time.monotonic()
        for wanted in scans:
            name = name_of(wanted.image, wanted.platform.manifest)
            again = now - self._asked.get(name, -AGAIN_SECONDS) >= AGAIN_SECONDS
            if again and not self._waiting.full():
                self._asked[name] = now
                self._waiting.put_nowait(wanted)

    async def run(self) -> NoReturn:
        while True:
            wanted = await self._waiting.get()
            await self._budget.take()
            try:
                await self._cluster.create(SCANS, request(wanted))
            except ApiError as error:
                if error.status != 409:  # it is wanted already
                    logger.warning(
                        "scan not asked for", extra=fields(image=wanted.image, error=str(error))
                    )


def name_of(image: str, digest: str) -> str:
    """Of the ImageScan of one platform's manifest, in the repository that the image is of."""
    repository = sha256(parse_reference(image).name.encode()).hexdigest()
    return f"{digest.replace(':', '-')}-{repository[:8]}"


def digest_of(name: str) -> str:
    """What is scanned for an ImageScan of this name, "" where it is none of `name_of`."""
    algorithm, _, rest = name.partition("-")
    return f"{algorithm}:{rest.partition('-')[0]}" if _NAME.fullmatch(name) else ""


def request(wanted: WantedScan) -> Object:
    """An ImageScan that says what is wanted, and nothing yet of what was found."""
    platform = wanted.platform
    return {
        "apiVersion": API_VERSION,
        "kind": "ImageScan",
        "metadata": {"name": name_of(wanted.image, platform.manifest)},
        "spec": {
            "image": wanted.image,
            "digests": sorted({wanted.digest, *platform.digests}),
            "platform": platform.name,
            "request": {
                "template": wanted.template,
                "namespace": wanted.namespace,
                "pullSecrets": sorted(set(wanted.pull_secrets))[:MOST_SECRETS],
            },
        },
    }
