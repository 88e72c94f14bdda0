"""The programs that serve webhooks: how each is built, prepared for and started."""

from __future__ import annotations

import ssl
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from batten_cluster import free_ports
from batten_tools import PEERS, go_module, peer, required_version

from batten_operator.certificates import Store, fresh
from batten_webhooks.resources import crds
from bench.peers.cluster import NAMESPACE, Cluster, Object, own_address
from bench.peers.gatekeeper import template
from bench.servers import Server

GATEKEEPER = "github.com/open-policy-agent/gatekeeper/v3"
KYVERNO = "github.com/kyverno/kyverno"
SYSTEM = "bench-system"  # the namespace of the programs


@dataclass(frozen=True)
class Program:
    """`module` and `package` are what it is built from, "" for Batten, which is here.

    `prepare` is what the cluster has before it starts; `command` starts one replica, which serves
    at a port.
    """

    name: str
    module: str
    package: str
    prepare: Callable[[Cluster, Store], None]
    command: Callable[[Site, int, int], tuple[list[str], dict[str, str]]]

    def there(self, *, build: bool) -> bool:
        """Whether it can be started. Raises ToolError."""
        return not self.package or peer(self.module, self.package, build=build) is not None

    @property
    def version(self) -> str:
        return required_version(PEERS, self.module) if self.module else ""


@dataclass
class Site:
    """Where programs are started: `folder` holds tls.crt and tls.key."""

    cluster: Cluster
    store: Store
    folder: Path
    core: int
    trust: ssl.SSLContext
    servers: dict[str, list[Server]] = field(default_factory=dict)

    def start(self, program: Program) -> Server:
        """One replica more, on the servers' core; it may not answer yet."""
        replicas = self.servers.setdefault(program.name, [])
        (port,) = free_ports(1)
        command, environment = program.command(self, port, len(replicas))
        name = f"{program.name}-{len(replicas)}"
        plane = self.cluster.plane
        pinned = ["taskset", "--cpu-list", str(self.core), *command]
        plane.spawn(name, pinned, KUBECONFIG=str(plane.kubeconfig), **environment)
        server = Server(plane.pid(name) or 0, port, self.trust)
        replicas.append(server)
        return server


def authority() -> Store:
    """What every program serves with: by name for the API server, and for us."""
    names = (f"*.{NAMESPACE}.svc", "localhost", own_address())
    return fresh(names, timedelta(days=1), datetime.now(UTC))


def _binary(module: str, package: str) -> str:
    return str(peer(module, package, build=True))


# --- null ---------------------------------------------------------------------------------------


def _nothing(_: Cluster, __: Store) -> None:
    pass


def _null(site: Site, port: int, _: int) -> tuple[list[str], dict[str, str]]:
    return [_binary("", "./null"), f":{port}", str(site.folder)], {}


# --- Batten -------------------------------------------------------------------------------------


def _prepare_batten(cluster: Cluster, _: Store) -> None:
    cluster.apply(crds().values())


def _batten(site: Site, port: int, _: int) -> tuple[list[str], dict[str, str]]:
    flags = [
        "--enforce", "--preset=hardened", "--component=webhook",
        f"--listen=:{port}", "--listen-http=", f"--certificate-directory={site.folder}",
        "--mutating-configuration=", "--validating-configuration=",
        "--no-look-up-images",  # nobody else here asks registries either
        "--drain=1s",
    ]  # fmt: skip
    return [sys.executable, "-m", "batten_operator", *flags], {}


# --- Gatekeeper ---------------------------------------------------------------------------------


def _prepare_gatekeeper(cluster: Cluster, _: Store) -> None:
    module = go_module(GATEKEEPER, required_version(PEERS, GATEKEEPER))
    cluster.define(module / "charts" / "gatekeeper" / "crds")
    cluster.apply([template()])


def _gatekeeper(site: Site, port: int, replica: int) -> tuple[list[str], dict[str, str]]:
    """As its chart starts it, but for what concerns certificates and Pods."""
    health, metrics = free_ports(2)
    flags = [
        f"--port={port}", f"--health-addr=:{health}", f"--prometheus-port={metrics}",
        "--operation=webhook", "--operation=mutation-webhook", "--operation=generate",
        f"--exempt-namespace={SYSTEM}", "--log-level=INFO", "--debug-use-fake-pod",
        "--disable-cert-rotation", f"--cert-dir={site.folder}",
    ]  # fmt: skip
    names = {"POD_NAME": f"gatekeeper-{replica}", "POD_NAMESPACE": SYSTEM}
    return [_binary(GATEKEEPER, GATEKEEPER), *flags], names


# --- Kyverno ------------------------------------------------------------------------------------

CA_SECRET, TLS_SECRET = "kyverno-ca", "kyverno-tls"


def _prepare_kyverno(cluster: Cluster, store: Store) -> None:
    module = go_module(KYVERNO, required_version(PEERS, KYVERNO))
    folder = module / "config" / "crds"
    cluster.define(*(each for each in sorted(folder.iterdir()) if each.is_dir()))
    pair = {"tls.key": store.serving.key}
    own = '{"namespaceSelector": {"matchLabels": {"bench.batten.dev/kyverno": "own"}}}'
    cluster.apply(
        [
            # Of all that Kyverno registers itself; who is asked here, bench.peers.cluster says.
            _config_map("kyverno", webhooks=own),
            _config_map("kyverno-metrics"),
            _secret(CA_SECRET, {"tls.crt": store.bundle, **pair}),
            _secret(TLS_SECRET, {"tls.crt": store.serving.certificate, **pair}),
        ]
    )


def _config_map(name: str, **data: str) -> Object:
    metadata = {"name": name, "namespace": SYSTEM}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _secret(name: str, data: dict[str, bytes]) -> Object:
    encoded = {key: b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": name, "namespace": SYSTEM}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": metadata,
        "data": encoded,
    }


def _kyverno(site: Site, port: int, replica: int) -> tuple[list[str], dict[str, str]]:
    """As its chart starts it, with certificates from elsewhere."""
    metrics, controllers = free_ports(2)
    flags = [
        f"--kubeconfig={site.cluster.plane.kubeconfig}",
        f"--caSecretName={CA_SECRET}", f"--tlsSecretName={TLS_SECRET}",
        "--disableCertManagerController=true", f"--serverIP={own_address()}:{port}",
        f"--webhookServerPort={port}", f"--metricsPort={metrics}",
        f"--controllerRuntimeMetricsAddress=:{controllers}",
        "--omitEvents=PolicyApplied,PolicySkipped", "--loggingFormat=text", "--v=2",
    ]  # fmt: skip
    names = {
        "KYVERNO_NAMESPACE": SYSTEM,
        "KYVERNO_POD_NAME": f"kyverno-{replica}",
        "KYVERNO_SERVICEACCOUNT_NAME": "kyverno",
        "KYVERNO_DEPLOYMENT": "kyverno",
        "KYVERNO_SVC": "kyverno-svc",
        "INIT_CONFIG": "kyverno",
        "METRICS_CONFIG": "kyverno-metrics",
    }
    return [_binary(KYVERNO, f"{KYVERNO}/cmd/kyverno"), *flags], names


PROGRAMS = {
    each.name: each
    for each in (
        Program("null", "", "./null", _nothing, _null),
        Program("batten", "", "", _prepare_batten, _batten),
        Program("gatekeeper", GATEKEEPER, GATEKEEPER, _prepare_gatekeeper, _gatekeeper),
        Program("kyverno", KYVERNO, f"{KYVERNO}/cmd/kyverno", _prepare_kyverno, _kyverno),
    )
}
