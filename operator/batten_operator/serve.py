"""The life of one operator process: listen, become ready, serve, drain, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from ssl import SSLContext, SSLError
from typing import Any, NoReturn, TypeVar

from kopf import OperatorRegistry
from prometheus_client import REGISTRY

from batten_operator.budget import WriteBudget
from batten_operator.certificates import Pair, expiry
from batten_operator.cluster import Cluster
from batten_operator.controller import Controller
from batten_operator.events import Events
from batten_operator.facts import ImageFacts
from batten_operator.image_scans import ImageScans
from batten_operator.keeper import DirectoryKeeper, OwnerKeeper, SecretKeeper
from batten_operator.logs import fields
from batten_operator.metrics import Metrics
from batten_operator.policies import Policies
from batten_operator.profiles import Profiles
from batten_operator.scan_requests import ScanRequests
from batten_operator.server import AdmissionServer, bind
from batten_operator.settings import Address, Settings
from batten_operator.stored_scans import StoredScans
from batten_operator.tls import ServingCertificate
from batten_operator.watch import KopfThread, handlers, watch_policies, watch_trust
from batten_webhooks.evidence.attestations.cache import Attestations
from batten_webhooks.images.cache import Images
from batten_webhooks.images.cloud import CloudCredentials, MissingExtra
from batten_webhooks.images.registry import Registries
from batten_webhooks.review import Answer

logger = logging.getLogger(__name__)

T = TypeVar("T")
# Of each replica that refuses: the controller's own writes are not slowed by them.
EVENTS_PER_SECOND = 1.0
SCANS_SECONDS = 20.0
NO_CERTIFICATE, NO_POLICIES = "no certificate yet", "policies not read yet"


class CannotListen(Exception):
    """An address is in use, or not ours."""


class CannotAsk(Exception):
    """The file of registries' CAs is of no use, or a cloud's library is not installed."""


class _Registries:
    """What is asked of registries, with its connections. Raises CannotAsk."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        file = settings.registry_ca
        self._metrics = metrics
        try:
            clouds = CloudCredentials(settings.cloud_registries, self._tell)
            self._client = Registries(settings.registries, clouds)
        except MissingExtra as error:
            raise CannotAsk(f"--cloud-registries {error}") from None
        except SSLError:
            raise CannotAsk(f"--registry-ca {file}: holds no certificate in PEM") from None
        except OSError as error:
            raise CannotAsk(f"--registry-ca {file}: {error.strerror or error}") from None
        self.images = Images(
            self._client, architectures=settings.architectures, fresh=settings.digest_ttl
        )
        self.attestations = Attestations(
            self._client, root=settings.sigstore_root, fresh=settings.digest_ttl
        )

    def _tell(self, registry: str, why: str) -> None:
        self._metrics.cloud_credential(registry, "failed" if why else "granted")
        if why:
            logger.warning("no cloud credential", extra=fields(registry=registry, error=why))

    async def close(self) -> None:
        await self.attestations.close()
        await self.images.close()
        await self._client.close()


@dataclass(frozen=True)
class _Parts:
    """What one process is made of. `certificate` is told when there is one to serve."""

    settings: Settings
    cluster: Cluster
    registries: _Registries | None
    profiles: Profiles
    metrics: Metrics
    policies: Policies
    server: AdmissionServer
    events: Events
    scans: StoredScans
    requests: ScanRequests
    controller: Controller
    certificate: ServingCertificate
    loaded: asyncio.Event
    waiting: set[str]

    @classmethod
    def of(cls, settings: Settings) -> _Parts:
        paths = settings.template_paths
        metrics = Metrics(REGISTRY, (kind.kind for kind in paths))
        cluster = Cluster()
        identity = f"{os.uname().nodename}_{token_hex(4)}"
        policies = Policies(settings.policy, paths, cluster)
        registries = _Registries(settings, metrics) if settings.look_up_images else None
        controller = Controller(cluster, policies, metrics, settings, identity)
        images, profiles = None, Profiles(cluster)
        scans = StoredScans(cluster, settings.namespace)
        if registries is not None:
            images = ImageFacts(
                cluster,
                registries.images,
                pull_secrets=settings.pull_secrets,
                architectures=settings.architectures,
                count=metrics.looked_up,
                profile=profiles.of,
                scans=ImageScans(registries.images, scans, registries.attestations),
            )
            controller.look_up(images, scans)
        policies.subscribe(metrics.governed)
        policies.subscribe(controller.wake)
        budget = WriteBudget(EVENTS_PER_SECOND)
        events, requests = Events(cluster, budget, identity), ScanRequests(cluster, budget)
        waiting = {NO_CERTIFICATE} if settings.webhooks else set()
        if settings.policies:
            waiting.add(NO_POLICIES)

        def answered(answer: Answer) -> None:
            events.denied(answer)
            requests.want(answer.wanted)

        server = AdmissionServer(policies, metrics, waiting, answered, images)
        loaded, certificate = asyncio.Event(), ServingCertificate()
        return cls(
            settings,
            cluster,
            registries,
            profiles,
            metrics,
            policies,
            server,
            events,
            scans,
            requests,
            controller,
            certificate,
            loaded,
            waiting,
        )

    def load(self, pair: Pair) -> bool:
        """Whether it is served now."""
        if not self.certificate.load(pair):
            return False
        self.metrics.certificate_expiry.set(expiry(pair).timestamp())
        self.loaded.set()
        return True

    async def open(self, bound: socket.socket | None, stop: asyncio.Event) -> None:
        """Serve as soon as everything is known that an answer needs."""
        if bound is not None:
            await self.loaded.wait()
            self.waiting.discard(NO_CERTIFICATE)
        if self.settings.policies:
            await self.policies.read.wait()
        if self.settings.scans:
            await self._read_scans()
        if bound is not None:
            await _listen(self.server, bound, self.certificate.context)
            _log_start(self.settings, bound)
        self.waiting.clear()
        # What is loaded by now stays; the collector need not look at it with every review.
        gc.collect()
        gc.freeze()
        await stop.wait()

    async def _read_scans(self) -> None:
        """Those that cannot be read do not keep us from serving: what they hold does not count."""
        try:
            async with asyncio.timeout(SCANS_SECONDS):
                await self.scans.read()
        except TimeoutError:
            logger.warning("scans are not all read after %g s; serving without", SCANS_SECONDS)

    def keepers(
        self, registry: OperatorRegistry, watcher: KopfThread
    ) -> Iterator[Coroutine[Any, Any, NoReturn]]:
        """What goes on all the time; the watches that it needs are added to the registry."""
        settings, loop = self.settings, asyncio.get_running_loop()
        if settings.webhooks and settings.certificate_directory is not None:
            yield DirectoryKeeper(settings.certificate_directory, self.load).run()
            yield OwnerKeeper(settings, self.cluster).run()
        elif settings.webhooks:
            secrets = SecretKeeper(settings, self.cluster, self.load)
            watch_trust(registry, settings, partial(loop.call_soon_threadsafe, secrets.wake))
            yield secrets.run()
        if settings.policies:
            watch_policies(registry, self.policies, self.profiles, loop)
            yield self.policies.run(watcher.begin_anew)
        if settings.scans:
            yield self.profiles.run()
            yield self.scans.run()
        if settings.scans and settings.webhooks:
            yield self.requests.run()
        if settings.policies and settings.webhooks:
            yield self.events.run()
        if settings.controls:
            yield self.controller.run()


async def serve(settings: Settings) -> None:
    """Returns after SIGTERM or SIGINT, drained; a second signal ends the draining.

    Raises CannotListen and CannotAsk.
    """
    asyncio.get_running_loop().set_exception_handler(_log_stray)
    stop, hurry = _signals()
    bound = _bound(settings.listen) if settings.webhooks else None
    bound_http = _bound(settings.listen_http) if settings.listen_http else None
    parts = _Parts.of(settings)
    server, waiting = parts.server, parts.waiting
    if bound_http is not None:
        await _listen(server, bound_http)
    async with _keeping(parts) as keeping:
        opening = asyncio.create_task(parts.open(bound, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((opening, stopping, keeping), return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
        if stop.is_set() and not waiting and settings.webhooks:
            logger.info("draining", extra=fields(seconds=settings.drain))
            server.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), settings.drain)
        await server.stop()
        for task in (opening, stopping):
            task.cancel()
    logger.info("stopped")


@asynccontextmanager
async def _keeping(parts: _Parts) -> AsyncIterator[asyncio.Task[Any]]:
    """Everything that goes on beside the answers, and kopf watching for it, until the end.

    The task that is given ends only by a failure.
    """
    settings = parts.settings
    registry = handlers(parts.server)
    loop = asyncio.get_running_loop()
    forget = partial(loop.call_soon_threadsafe, parts.policies.forget_namespaces)
    watcher = KopfThread(registry, settings.namespace, forget)
    keepers = list(parts.keepers(registry, watcher))
    watching = settings.policies or settings.certificate_directory is None
    if watching:
        watcher.start()
    try:
        async with _running(_all(keepers)) as task:
            yield task
    finally:
        if watching:
            await asyncio.to_thread(watcher.stop)
        if parts.registries is not None:
            await parts.registries.close()
        await parts.cluster.close()


async def _all(works: list[Coroutine[Any, Any, NoReturn]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Set by the first SIGTERM or SIGINT, and by the second."""
    first, second = asyncio.Event(), asyncio.Event()

    def received() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, received)
    return first, second


def _bound(address: Address) -> socket.socket:
    try:
        return bind(address)
    except OSError as error:
        raise _cannot_listen(f"{address.host}:{address.port}", error) from None


async def _listen(
    server: AdmissionServer, bound: socket.socket, context: SSLContext | None = None
) -> None:
    """Raises CannotListen."""
    try:
        await server.listen(bound, context)
    except OSError as error:
        raise _cannot_listen(_name(bound), error) from None


def _cannot_listen(where: str, error: OSError) -> CannotListen:
    return CannotListen(f"cannot listen on {where}: {error.strerror or error}")


def _name(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _log_start(settings: Settings, bound: socket.socket) -> None:
    logger.info(
        "serving",
        extra=fields(
            address=_name(bound),
            preset=settings.preset,
            mode="enforce" if settings.enforce else "observe",
        ),
    )


def _log_stray(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Broken connections and handshakes are everyday; the rest is a defect and is logged as one."""
    error = context.get("exception")
    level = logging.DEBUG if isinstance(error, OSError | TimeoutError) else logging.ERROR
    logger.log(level, "%s", context.get("message"), exc_info=error)
