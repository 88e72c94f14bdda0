"""The admission server in a test's own loop, with real certificates and a client to match."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from batten_operator.certificates import Store, fresh
from batten_operator.cluster import Cluster
from batten_operator.metrics import Metrics
from batten_operator.policies import Policies
from batten_operator.server import AdmissionServer, bind
from batten_operator.settings import Address
from batten_operator.tls import ServingCertificate
from batten_webhooks.governance import Governance, GoverningPolicy
from batten_webhooks.policy import PRESETS
from batten_webhooks.workload import TEMPLATE_PATHS

UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
NAMES = ("localhost", "127.0.0.1")


def pod_review(*, uid: str = UID, operation: str = "CREATE", **spec: Any) -> dict[str, Any]:
    """An AdmissionReview of a Pod as an API server sends it; `spec` adds to the Pod's own."""
    containers = [{"name": "app", "image": "registry.example/team/app:1.4.2", "resources": {}}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "containers": containers,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "securityContext": {},
            **spec,
        },
    }
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "web",
            "namespace": "shop",
            "operation": operation,
            "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
            "object": pod,
            "oldObject": pod if operation == "UPDATE" else None,
            "dryRun": False,
        },
    }


def first_store(*, lifetime: timedelta = timedelta(hours=1)) -> Store:
    return fresh(NAMES, lifetime, datetime.now(UTC))


def trusting(bundle: bytes) -> ssl.SSLContext:
    """A client's context that trusts this CA bundle and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=bundle.decode())
    return context


@dataclass
class Served:
    server: AdmissionServer
    certificate: ServingCertificate
    metrics: CollectorRegistry
    client: aiohttp.ClientSession
    trust: ssl.SSLContext
    port: int
    waiting: set[str]
    policies: Policies

    def govern(self, *policies: GoverningPolicy) -> None:
        self.policies.governance = Governance(self.policies.governance.default, policies)

    def tell(self, namespace: str, labels: dict[str, str]) -> None:
        """As a watch of Namespaces does."""
        self.policies.namespace(namespace, labels)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def post(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one POST; `body` is sent as it is if it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        async with self.client.post(self.url + path, data=data, headers=sent) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname="localhost"
        )

    def count(self, metric: str, **labels: str) -> float:
        return self.metrics.get_sample_value(metric, labels) or 0.0


@asynccontextmanager
async def serving(
    cluster: Cluster | None = None, *, preset: str = "hardened"
) -> AsyncIterator[Served]:
    store = first_store()
    certificate = ServingCertificate()
    assert certificate.load(store.serving)
    registry = CollectorRegistry()
    waiting: set[str] = set()
    metrics = Metrics(registry, (kind.kind for kind in TEMPLATE_PATHS))
    policies = Policies(PRESETS[preset], TEMPLATE_PATHS, cluster)
    server = AdmissionServer(policies, metrics, waiting)
    bound = bind(Address("127.0.0.1", 0))
    await server.listen(bound, certificate.context)
    trust = trusting(store.bundle)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust), timeout=aiohttp.ClientTimeout(total=30)
    ) as client:
        port = bound.getsockname()[1]
        yield Served(server, certificate, registry, client, trust, port, waiting, policies)
    await server.stop()
    if cluster is not None:
        await cluster.close()


def request_bytes(body: bytes, path: str = "/mutate", *, length: int | None = None) -> bytes:
    """A POST on the wire; `length` says another Content-Length than the body's."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body
