"""The cluster's own ImageProfiles, read again and again, and at once where a watch tells of one."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import NoReturn

from batten_operator.cluster import ApiError, Cluster
from batten_operator.logs import fields
from batten_webhooks.image_facts import Profile
from batten_webhooks.images.bounded import Bounded
from batten_webhooks.images.profiles import profile_of
from batten_webhooks.reference import Reference
from batten_webhooks.resources import ClusterProfile, Invalid, read_profile
from batten_webhooks.resources.model import GROUP, VERSION

logger = logging.getLogger(__name__)

PROFILES = "imageprofiles"
RESYNC_SECONDS = 60.0
MOST_REMEMBERED = 10_000


class Profiles:
    """What could not be read leaves what was read last in force; one that is wrong is left out."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._profiles: list[ClusterProfile] = []
        self._found = Bounded[str, Profile | None](MOST_REMEMBERED)
        self._woken = asyncio.Event()

    def of(self, reference: Reference) -> Profile | None:
        """The cluster's own for this image, the first by name, or else the one that we bring."""
        if not self._profiles:
            return profile_of(reference)
        name = reference.name
        if name not in self._found:
            own = (
                each.profile
                for each in self._profiles
                if any(pattern.matches(name) for pattern in each.images)
            )
            self._found[name] = next(own, None)
        return self._found[name] or profile_of(reference)

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> NoReturn:
        while True:
            try:
                await self.look()
            except ApiError as error:
                if error.status != 404:  # a cluster without the definition has none
                    logger.warning("ImageProfiles were not read: %s", error)
            except Exception:
                logger.exception("a defect: ImageProfiles are not read for a while")
            with suppress(TimeoutError):
                async with asyncio.timeout(RESYNC_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def look(self) -> None:
        """Raises ApiError."""
        listed = await self._cluster.get(f"/apis/{GROUP}/{VERSION}/{PROFILES}")
        good = []
        for item in sorted(listed["items"], key=lambda each: str(each["metadata"]["name"])):
            value = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "ImageProfile", **item}
            try:
                good.append(read_profile(value))
            except Invalid as error:
                name = item["metadata"]["name"]
                logger.error("not valid", extra=fields(resource=PROFILES, name=name, errors=error))
        if good != self._profiles:
            self._profiles = good
            self._found.clear()
            logger.info("ImageProfiles read", extra=fields(count=len(good)))
