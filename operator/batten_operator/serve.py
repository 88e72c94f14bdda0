"""The life of one operator process: listen, become ready, serve, drain, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from ssl import SSLContext
from typing import Any, NoReturn, TypeVar

from prometheus_client import REGISTRY

from batten_operator.certificates import Pair, expiry
from batten_operator.cluster import Cluster
from batten_operator.keeper import DirectoryKeeper, Load, SecretKeeper
from batten_operator.logs import fields
from batten_operator.metrics import Metrics
from batten_operator.policies import Policies
from batten_operator.server import AdmissionServer, bind
from batten_operator.settings import Address, Settings
from batten_operator.tls import ServingCertificate
from batten_operator.watch import KopfThread, handlers, watch_policies, watch_trust

logger = logging.getLogger(__name__)

T = TypeVar("T")
NO_CERTIFICATE, NO_POLICIES = "no certificate yet", "policies not read yet"


class CannotListen(Exception):
    """An address is in use, or not ours."""


async def serve(settings: Settings) -> None:
    """Returns after SIGTERM or SIGINT, drained; a second signal ends the draining.

    Raises CannotListen.
    """
    asyncio.get_running_loop().set_exception_handler(_log_stray)
    stop, hurry = _signals()
    bound = _bound(settings.listen)
    bound_http = _bound(settings.listen_http) if settings.listen_http else None
    waiting = {NO_CERTIFICATE, NO_POLICIES} if settings.policies else {NO_CERTIFICATE}
    paths = settings.template_paths
    metrics = Metrics(REGISTRY, (kind.kind for kind in paths))
    cluster = Cluster()
    policies = Policies(settings.policy, paths, cluster, metrics.governed)
    server = AdmissionServer(policies, metrics, waiting)
    certificate = ServingCertificate()
    loaded = asyncio.Event()

    def load(pair: Pair) -> None:
        if certificate.load(pair):
            metrics.certificate_expiry.set(expiry(pair).timestamp())
            loaded.set()

    async def open_webhooks() -> None:
        await loaded.wait()
        waiting.discard(NO_CERTIFICATE)
        if settings.policies:
            await policies.read.wait()
        await _listen(server, bound, certificate.context)
        waiting.clear()
        _log_start(settings, bound)
        # What is loaded by now stays; the collector need not look at it with every review.
        gc.collect()
        gc.freeze()
        await stop.wait()

    if bound_http is not None:
        await _listen(server, bound_http)
    async with _keeping(settings, cluster, server, policies, load) as keeping:
        opening = asyncio.create_task(open_webhooks())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((opening, stopping, keeping), return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
        if stop.is_set() and not waiting:
            logger.info("draining", extra=fields(seconds=settings.drain))
            server.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), settings.drain)
        await server.stop()
        for task in (opening, stopping):
            task.cancel()
    logger.info("stopped")


@asynccontextmanager
async def _keeping(
    settings: Settings,
    cluster: Cluster,
    server: AdmissionServer,
    policies: Policies,
    load: Load,
) -> AsyncIterator[asyncio.Task[Any]]:
    """What the certificate and what governs are kept by, and kopf watching for both, until the end.

    The task that is given ends only by a failure.
    """
    loop = asyncio.get_running_loop()
    registry = handlers(server)
    forget = partial(loop.call_soon_threadsafe, policies.forget_namespaces)
    watcher = KopfThread(registry, settings.namespace, forget)
    keepers: list[Coroutine[Any, Any, NoReturn]] = []
    if settings.certificate_directory is not None:
        keepers.append(DirectoryKeeper(settings.certificate_directory, load).run())
    else:
        secrets = SecretKeeper(settings, cluster, load)
        watch_trust(registry, settings, partial(loop.call_soon_threadsafe, secrets.wake))
        keepers.append(secrets.run())
    if settings.policies:
        watch_policies(registry, policies, loop)
        keepers.append(policies.run(watcher.begin_anew))
    watching = settings.policies or settings.certificate_directory is None
    if watching:
        watcher.start()
    try:
        async with _running(_all(keepers)) as task:
            yield task
    finally:
        if watching:
            await asyncio.to_thread(watcher.stop)
        await cluster.close()


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
    """Two processes may bind an address that neither listens on yet; the second learns it here."""
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
