"""Keeps the certificate and the API servers' trust in it: the Secret, and both `caBundle`s.

It also makes our Namespace the owner of both configurations, whose uid the chart cannot know. That
much is done, too, where somebody else issues the certificate; the `caBundle`s are left alone then.

Any number of replicas may run this at once: each write names the version that it replaces, and
whoever comes second reads again. It belongs to no server: serving goes on with what was loaded
last, whatever happens here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import SystemRandom
from typing import NoReturn

from batten_operator.certificates import (
    Pair,
    Store,
    expiry,
    fresh,
    from_data,
    renewal,
    step,
    to_data,
)
from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.logs import fields
from batten_operator.settings import Settings

logger = logging.getLogger(__name__)

RESYNC_SECONDS = 300.0
RETRY_SECONDS = (1.0, 60.0)
SPACING_SECONDS = 0.5  # between two looks, however often somebody changes what is kept
CONFLICTS = 5
DIRECTORY_SECONDS = 2.0
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"

_RANDOM = SystemRandom()
Load = Callable[[Pair], bool]


class SecretKeeper:
    """Issues certificates into a Secret. `load` gets each one that is to be served."""

    def __init__(self, settings: Settings, cluster: Cluster, load: Load) -> None:
        self._settings = settings
        self._cluster = cluster
        self._load = load
        self._lifetime = timedelta(seconds=settings.certificate_lifetime)
        self._secrets = f"/api/v1/namespaces/{settings.namespace}/secrets"
        self._secret = f"{self._secrets}/{settings.certificate_secret}"
        self._configurations = Configurations(settings, cluster)
        self._woken = asyncio.Event()
        self._store: Store | None = None
        self._everywhere = b""  # the bundle that all configurations hold …
        self._since = 0.0  # … and since when, on the monotonic clock

    def wake(self) -> None:
        """Look at once: something that is kept has changed."""
        self._woken.set()

    async def run(self) -> NoReturn:
        await _again_and_again(self._look, self._wait, "the certificate is")

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, SPACING_SECONDS))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds - SPACING_SECONDS)):
                await self._woken.wait()
        self._woken.clear()

    async def _look(self) -> float:
        """One look at everything; the seconds until the next. Raises ApiError."""
        store = await self._agreed()
        self._load(store.serving)
        await self._keep_trust(store.bundle)
        if store.staged is not None:
            return self._since + self._settings.certificate_propagation - time.monotonic()
        due = (renewal(store) - _now()).total_seconds()
        return min(due, _RANDOM.uniform(0.8, 1.0) * RESYNC_SECONDS)

    # --- the Secret -----------------------------------------------------------------------------

    async def _agreed(self) -> Store:
        """What the Secret holds, after a step of our own where one is due."""
        for _ in range(CONFLICTS):
            try:
                return await self._read_and_step()
            except ApiError as error:
                if error.status != 409:
                    raise
        raise ApiError(f"Secret {self._settings.certificate_secret}: others keep changing it")

    async def _read_and_step(self) -> Store:
        secret = await _read(self._cluster, self._secret)
        held = None if secret is None else self._parsed(secret)
        # What somebody deleted or broke is written as it was: it is what API servers trust.
        store = held or self._store
        if store is None:
            following = fresh(self._settings.names, self._lifetime, _now())
        else:
            trusted = self._has_propagated(store.bundle)
            names = self._settings.names
            following = step(store, names, self._lifetime, _now(), trusted=trusted) or store
        if following != held:
            await self._write(secret, following)
        self._store = following
        return following

    def _parsed(self, secret: Object) -> Store | None:
        try:
            return from_data(secret.get("data") or {})
        except ValueError as error:
            name = self._settings.certificate_secret
            logger.warning("Secret %s: %s; it is written anew", name, error)
            return None

    async def _write(self, secret: Object | None, store: Store) -> None:
        if secret is None:
            metadata = {
                "name": self._settings.certificate_secret,
                "namespace": self._settings.namespace,
                "labels": {"app.kubernetes.io/managed-by": "batten-operator"},
            }
            value = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
            await self._cluster.create(
                self._secrets, {**value, "metadata": metadata, "data": to_data(store)}
            )
        else:
            await self._cluster.replace(self._secret, {**secret, "data": to_data(store)})
        logger.info(
            "certificate staged" if store.staged else "certificate stored",
            extra=fields(
                secret=self._settings.certificate_secret,
                expires=expiry(store.staged or store.serving).isoformat(),
            ),
        )

    # --- the trust ------------------------------------------------------------------------------

    async def _keep_trust(self, bundle: bytes) -> None:
        """Raises ApiError."""
        unchanged = self._everywhere == bundle
        self._everywhere = b""
        written = await self._configurations.keep(bundle)
        self._everywhere = bundle
        if written or not unchanged:
            self._since = time.monotonic()

    def _has_propagated(self, bundle: bytes) -> bool:
        waited = time.monotonic() - self._since
        return self._everywhere == bundle and waited >= self._settings.certificate_propagation


class OwnerKeeper:
    """Our Namespace owns the configurations, and who issues the certificate keeps their trust."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._configurations = Configurations(settings, cluster)

    async def run(self) -> NoReturn:
        await _again_and_again(self._look, asyncio.sleep, "the configurations are")

    async def _look(self) -> float:
        await self._configurations.keep()
        return _RANDOM.uniform(0.8, 1.0) * RESYNC_SECONDS


class Configurations:
    """Both webhook configurations, as far as they are the operator's to write."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._namespace = settings.namespace
        self._cluster = cluster
        named = {
            f"{REGISTRATION}/mutatingwebhookconfigurations": settings.mutating_configuration,
            f"{REGISTRATION}/validatingwebhookconfigurations": settings.validating_configuration,
        }
        self._paths = [f"{path}/{name}" for path, name in named.items() if name]
        self._absent: set[str] = set()
        self._owner: Object | None = None

    async def keep(self, bundle: bytes | None = None) -> bool:
        """Put the bundle, if there is one, wherever it is not, and the owner; whether any trust
        had to be written. All places are tried before ApiError is raised."""
        errors = []
        written = False
        for path in self._paths:
            try:
                written |= await self._keep(path, bundle)
            except ApiError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return written

    async def _keep(self, path: str, bundle: bytes | None) -> bool:
        """Whether its trust had to be written. A configuration that is not there trusts nobody."""
        configuration = await _read(self._cluster, path)
        if configuration is None:
            if path not in self._absent:
                logger.warning("not there, so that no API server calls us by it: %s", path)
            self._absent.add(path)
            return False
        self._absent.discard(path)
        wrong = [] if bundle is None else _distrusting(configuration, bundle)
        owner = await self._our_namespace()
        owners = configuration["metadata"].get("ownerReferences") or ()
        owned = owner is None or any(each["uid"] == owner["uid"] for each in owners)
        if owned and not wrong:
            return False
        patch: Object = {"webhooks": wrong} if wrong else {}
        if not owned:
            patch["metadata"] = {"ownerReferences": [owner]}
        await self._cluster.patch(path, patch)
        names = [webhook["name"] for webhook in wrong]
        logger.info("configuration written", extra=fields(configuration=path, webhooks=names))
        return bool(wrong)

    async def _our_namespace(self) -> Object | None:
        """As an owner: the configurations go with it, and block nothing then."""
        if self._owner is None:
            try:
                found = await _read(self._cluster, f"/api/v1/namespaces/{self._namespace}")
            except ApiError as error:
                logger.warning("the configurations get no owner: %s", error)
                return None
            if found is not None:
                name, uid = found["metadata"]["name"], found["metadata"]["uid"]
                self._owner = {"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": uid}
        return self._owner


class DirectoryKeeper:
    """Serves what somebody else keeps in a folder; whoever issues it sees to the `caBundle`s."""

    def __init__(self, directory: Path, load: Load) -> None:
        self._directory = directory
        self._load = load
        self._last: Pair | str | None = None
        self._ends: datetime | None = None  # when what is served does, until that was told

    async def run(self) -> NoReturn:
        while True:
            self._look()
            await asyncio.sleep(DIRECTORY_SECONDS)

    def _look(self) -> None:
        folder = self._directory
        found: Pair | str
        try:
            found = Pair((folder / "tls.crt").read_bytes(), (folder / "tls.key").read_bytes())
        except OSError as error:
            found = str(error)
        if found != self._last:
            self._last = found
            if isinstance(found, str):
                logger.error("certificate not read: %s", found)
            elif self._load(found):
                self._ends = expiry(found)
        if self._ends is not None and _now() >= self._ends:
            logger.error("certificate not renewed: API servers refuse that of %s by now", folder)
            self._ends = None


async def _again_and_again(
    look: Callable[[], Awaitable[float]],
    wait: Callable[[float], Awaitable[object]],
    what: str,
) -> NoReturn:
    """`look` tells the seconds until the next time; after failures it is tried again later."""
    failures = 0
    while True:
        try:
            pause = await look()
            failures = 0
        except Exception as error:
            first, most = RETRY_SECONDS
            pause = _RANDOM.uniform(0.5, 1.0) * min(most, first * 2**failures)
            failures = min(failures + 1, 10)
            if isinstance(error, ApiError):
                logger.warning("%s%s; trying again in %.1f s", error, _way_out(error), pause)
            else:
                logger.exception("a defect: %s not looked after for a while", what)
        await wait(pause)


async def _read(cluster: Cluster, path: str) -> Object | None:
    try:
        return await cluster.get(path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def _distrusting(configuration: Object, bundle: bytes) -> list[Object]:
    """Its webhooks that lack the bundle, with it, as a patch has them."""
    client = {"caBundle": b64encode(bundle).decode()}
    return [
        {"name": webhook["name"], "clientConfig": client}
        for webhook in configuration.get("webhooks") or ()
        if webhook["clientConfig"].get("caBundle") != client["caBundle"]
    ]


def _way_out(error: ApiError) -> str:
    if error.status == 403:
        return " (the chart's Role and ClusterRole grant what is needed)"
    return ""


def _now() -> datetime:
    return datetime.now(UTC)
