"""One API server for all of them, and the Services by which it finds each."""

from __future__ import annotations

import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batten_cluster import ClusterError, ControlPlane
from batten_e2e import Kubectl

from bench.client import Connection, post
from bench.servers import Server

Object = dict[str, Any]
NAMESPACE = "peers"  # of the Services
PRIORITY_CLASS = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "shop-critical"},
    "value": 100000,
}


@dataclass(frozen=True)
class Create:
    """A dry run of creating a Pod: everything but the write. Counts as bench.client's targets do.

    The path is that of a namespace, whose name says who is asked.
    """

    port: int
    trust: ssl.SSLContext
    namespace: str
    body: bytes

    async def ask(self, connection: Connection) -> None:
        await connection.exchange(self.message)

    @property
    def message(self) -> bytes:
        return post(f"/api/v1/namespaces/{self.namespace}/pods?dryRun=All", self.body)


@dataclass(frozen=True)
class Cluster:
    plane: ControlPlane
    bundle: bytes  # the CA that vouches for the webhooks, in PEM

    @property
    def kubectl(self) -> Kubectl:
        return self.plane.kubectl

    @property
    def api(self) -> Server:
        """The API server as a process."""
        config = json.loads(self.plane.kubeconfig.read_text())
        port = urlsplit(config["clusters"][0]["cluster"]["server"]).port
        folder = self.plane.folder
        trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        trust.load_cert_chain(folder / "admin.crt", folder / "admin.key")
        return Server(self.plane.pid("kube-apiserver") or 0, port or 0, trust)

    def create(self, namespace: str, pod: Object) -> Create:
        api = self.api
        return Create(api.port, api.trust, namespace, json.dumps(pod).encode())

    def apply(self, objects: Iterable[Object], *, timeout: float = 300) -> None:
        """Raises ClusterError."""
        items = list(objects)
        if not items:
            return
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        done = self.kubectl("apply", "--server-side", "-f", "-", stdin=text, timeout=timeout)
        if done.code:
            raise ClusterError(f"not applied: {done.stderr[-2000:]}")

    def define(self, *folders: Path) -> None:
        """CustomResourceDefinitions in files."""
        for folder in folders:
            done = self.kubectl("apply", "--server-side", "-f", str(folder), timeout=120)
            if done.code:
                raise ClusterError(f"{folder.name}: not applied: {done.stderr[-2000:]}")

    def route(self, name: str, ports: Sequence[int], mutate: str, validate: str) -> None:
        """A namespace whose new Pods are reviewed by the replicas at these ports, and only those.

        The API server finds them by a Service and EndpointSlices made by hand, and chooses one for
        each connection (`--enable-aggregator-routing`).
        """
        slices = (_endpoint(name, own_address(), port) for port in ports)
        self.apply([namespace(name), _service(name), *slices])
        self.apply(self._configurations(name, mutate, validate))

    def _configurations(self, name: str, mutate: str, validate: str) -> Iterator[Object]:
        for kind, path in (("Mutating", mutate), ("Validating", validate)):
            yield {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": f"{kind}WebhookConfiguration",
                "metadata": {"name": f"bench-{name}"},
                "webhooks": [_webhook(name, path, self.bundle.decode())],
            }


def _webhook(name: str, path: str, bundle: str) -> Object:
    reference = {"namespace": NAMESPACE, "name": name, "path": path, "port": 443}
    return {
        "name": f"{name}.bench.batten.dev",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": reference, "caBundle": b64encode(bundle.encode()).decode()},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
            }
        ],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 10,
    }


def namespace(name: str, **labels: str) -> Object:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _service(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"ports": [{"name": "https", "port": 443}]},
    }


def _endpoint(name: str, address: str, port: int) -> Object:
    """One replica: all endpoints of a slice have the same ports."""
    labels = {"kubernetes.io/service-name": name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{port}", "namespace": NAMESPACE, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}],
        "ports": [{"name": "https", "port": port}],
    }


def own_address() -> str:
    """One of this machine's that is no loopback address, which an endpoint must not have; nothing
    is sent. Raises ClusterError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError as error:
            raise ClusterError(f"this machine has no address but its loopback: {error}") from None
        return str(asked.getsockname()[0])
