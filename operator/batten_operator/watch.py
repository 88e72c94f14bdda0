"""The kopf operator: it watches what the certificate's keeper keeps and what governs, and reviews
our own kinds.

It runs in a thread with a loop of its own. kopf ends where a watch is forbidden or the API server
is away at start, and then cancels every task of its loop: neither must ever reach the webhooks, so
they are served in another loop, and kopf is simply started again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from secrets import SystemRandom
from typing import Any

import kopf
from kubernetes.aio.client import Configuration

from batten_operator import own_reviews
from batten_operator.cluster import SILENT_SECONDS, ApiError, configuration
from batten_operator.policies import EXCEPTIONS, POLICIES, Policies
from batten_operator.profiles import PROFILES, Profiles
from batten_operator.server import AdmissionServer
from batten_operator.settings import Settings
from batten_webhooks.resources.model import GROUP, VERSION

logger = logging.getLogger(__name__)

REGISTRATION = "admissionregistration.k8s.io"
RETRY_SECONDS = (1.0, 10.0)
STOP_SECONDS = 2.0
Wake = Callable[[], object]


class KopfThread:
    """kopf's operator, started again with backoff whenever it ends, until `stop`.

    `ended` is called in its thread, each time it ends.
    """

    def __init__(
        self, registry: kopf.OperatorRegistry, namespace: str, ended: Callable[[], object]
    ) -> None:
        self._on_end = ended
        self._registry = registry
        self._namespace = namespace
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_ignore)  # of watches that fail together, one is told
        self._stopped = asyncio.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def begin_anew(self) -> None:
        """For kinds that were not defined when the watches began."""
        self._loop.call_soon_threadsafe(self._ended.set)

    def stop(self) -> None:
        """Returns once kopf's cleanup handlers have run, or after two seconds."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._supervise())

    async def _supervise(self) -> None:
        first, most = RETRY_SECONDS
        pause = first
        while not self._stopped.is_set():
            started = time.monotonic()
            self._ended.clear()
            try:
                await kopf.operator(
                    registry=self._registry,
                    settings=kopf.OperatorSettings(),
                    namespaces=[self._namespace],
                    stop_flag=self._ended,
                )
            except Exception as error:
                reason = (error.args or (type(error).__name__,))[0]
                pause = first if time.monotonic() - started > most else min(most, 2 * pause)
                logger.warning("watching ended: %s; it starts again in %.1f s", reason, pause)
            self._on_end()
            with suppress(TimeoutError):
                async with asyncio.timeout(SystemRandom().uniform(0.5, 1.0) * pause):
                    await self._stopped.wait()


def _ignore(_: asyncio.AbstractEventLoop, __: dict[str, Any]) -> None:
    """kopf leaves the exceptions of its tasks behind when it ends."""


def handlers(server: AdmissionServer) -> kopf.OperatorRegistry:
    """Those that every operator has.

    Every selector names its group and version: one without scans all API groups at start.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)
        settings.admission.server = server

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        try:
            return await _connection(await configuration())
        except ApiError as error:
            raise kopf.PermanentError(str(error)) from None

    @kopf.on.cleanup(registry=registry)
    async def clean_up(**_: Any) -> None:
        logger.info("watching stopped")

    return registry


def watch_trust(registry: kopf.OperatorRegistry, settings: Settings, wake: Wake) -> None:
    """What the certificate's keeper keeps."""
    named = {
        ("", "v1", "secrets"): settings.certificate_secret,
        (REGISTRATION, "v1", "mutatingwebhookconfigurations"): settings.mutating_configuration,
        (REGISTRATION, "v1", "validatingwebhookconfigurations"): settings.validating_configuration,
    }
    watched = {resource: name for resource, name in named.items() if name}

    @kopf.on.startup(registry=registry, id="select")
    async def select(settings: kopf.OperatorSettings, **_: Any) -> None:
        for resource, name in watched.items():
            settings.watching.field_selectors[resource] = f"metadata.name={name}"

    async def changed(**_: Any) -> None:
        wake()

    for resource in watched:
        kopf.on.event(*resource, registry=registry)(changed)


def watch_policies(
    registry: kopf.OperatorRegistry,
    policies: Policies,
    profiles: Profiles,
    loop: asyncio.AbstractEventLoop,
) -> None:
    """What governs, told in the loop of those who keep it; and the reviews of our own kinds."""

    @kopf.on.event(GROUP, VERSION, POLICIES, registry=registry)
    @kopf.on.event(GROUP, VERSION, EXCEPTIONS, registry=registry)
    async def changed(event: Any, resource: kopf.Resource, **_: Any) -> None:
        metadata, deleted = event["object"]["metadata"], event["type"] == "DELETED"
        wake = partial(policies.wake, resource.plural, metadata, deleted=deleted)
        loop.call_soon_threadsafe(wake)

    @kopf.on.event(GROUP, VERSION, PROFILES, registry=registry)
    async def profile(**_: Any) -> None:
        loop.call_soon_threadsafe(profiles.wake)

    @kopf.on.event("", "v1", "namespaces", registry=registry)
    async def namespace(event: Any, name: str, **_: Any) -> None:
        labels = event["object"]["metadata"].get("labels") or {}
        told = None if event["type"] == "DELETED" else labels
        loop.call_soon_threadsafe(policies.namespace, name, told)

    own_reviews.register(registry, lambda: policies.governance)


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.admission.managed = None  # the chart owns the webhook configurations
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.process.ultimate_exiting_timeout = None  # the process outlives kopf
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = (1, 2, 4)
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = SILENT_SECONDS


class Connection(kopf.ConnectionInfo):
    """Trusts whom `cluster.configuration` lets Kubernetes' client trust."""

    def as_ssl_context(self) -> ssl.SSLContext:
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


async def _connection(found: Configuration) -> Connection:
    header = await found.get_api_key_with_prefix("BearerToken") or ""
    scheme, _, token = header.rpartition(" ")
    return Connection(
        server=found.host,
        ca_path=found.ssl_ca_cert,
        ca_data=found.ca_cert_data,
        insecure=not found.verify_ssl,
        username=found.username or None,
        password=found.password or None,
        scheme=scheme or None,
        token=token or None,
        certificate_path=found.cert_file,
        private_key_path=found.key_file,
        proxy_url=found.proxy,
    )
