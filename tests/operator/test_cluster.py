"""The operator on a real API server, with the chart's own rights: Secret, caBundle, rotation."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from batten_cluster import ControlPlane, free_ports
from batten_e2e import Kubectl, eventually
from batten_install import NAMESPACE, Installation, ca_bundle
from batten_serving import trusting
from cryptography import x509

from batten_operator.certificates import fresh, from_data

pytestmark = pytest.mark.cluster

SECRET = "batten-webhook-certificate"  # noqa: S105
ROTATING = ("--certificate-lifetime=12s", "--certificate-propagation=2s")
KINDS = ("mutating", "validating")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("operator"), controllers=False) as running:
        Installation(running, running.kubectl).claim()
        yield running


@contextmanager
def installed(plane: ControlPlane, *arguments: str, **values: str) -> Iterator[Installation]:
    """Batten's chart and operator, with a new Secret; a value is named `certificate__caBundle`."""
    installation = Installation(
        plane,
        plane.kubectl,
        arguments=("--drain=0s", *arguments),
        values={name.replace("__", "."): value for name, value in values.items()},
    )
    installation.deploy()
    try:
        yield installation
    finally:
        installation.stop()
        plane.kubectl("delete", "secret", SECRET, "-n", NAMESPACE, "--ignore-not-found")


def log(plane: ControlPlane, name: str = "operator") -> list[dict[str, Any]]:
    text = (plane.folder / f"{name}.log").read_text()
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def secret(kubectl: Kubectl) -> dict[str, Any] | None:
    asked = kubectl("get", "secret", SECRET, "-n", NAMESPACE, "-o", "json")
    return json.loads(asked.stdout) if asked.code == 0 else None


def served(port: int) -> bytes:
    """The certificate that is served, as PEM."""
    return ssl.get_server_certificate(("127.0.0.1", port)).encode()


def same(one: bytes, other: bytes) -> bool:
    return x509.load_pem_x509_certificate(one) == x509.load_pem_x509_certificate(other)


def test_the_secret_and_both_bundles(plane: ControlPlane) -> None:
    with installed(plane) as operator:
        held = secret(plane.kubectl)
        assert held is not None
        assert held["type"] == "kubernetes.io/tls"
        store = from_data(held["data"])
        assert all(ca_bundle(plane.kubectl, kind) == store.bundle for kind in KINDS)
        assert same(served(operator.port), store.serving.certificate)

        operator.kill()
        operator.start()
        again = secret(plane.kubectl)
        assert again is not None
        assert again["data"] == held["data"]
        assert same(served(operator.port), store.serving.certificate)


def test_what_somebody_breaks_is_mended(plane: ControlPlane) -> None:
    with installed(plane) as operator:
        kubectl = plane.kubectl
        held = secret(kubectl)
        assert held is not None
        bundle = from_data(held["data"]).bundle
        generations = {}
        for kind in KINDS:
            name = f"{kind}webhookconfiguration/batten"
            before = json.loads(kubectl("get", name, "-o", "json").require().stdout)
            broken = [{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]
            kubectl("patch", name, "--type=json", "-p", json.dumps(broken)).require()
            generations[kind] = before
        for kind in KINDS:
            eventually(
                lambda kind=kind: bundle_everywhere(kubectl, kind, bundle) or None,  # type: ignore[misc]
                f"the {kind} caBundle is mended",
                10,
            )
            name = f"{kind}webhookconfiguration/batten"
            after = json.loads(kubectl("get", name, "-o", "json").require().stdout)
            assert after["webhooks"] == generations[kind]["webhooks"]

        kubectl("delete", "secret", SECRET, "-n", NAMESPACE).require()
        remade = eventually(lambda: secret(kubectl), "the Secret is there again", 10)
        assert remade["data"] == held["data"]

        rubbish = json.dumps({"data": {"tls.key": base64.b64encode(b"x").decode()}})
        kubectl("patch", "secret", SECRET, "-n", NAMESPACE, "-p", rubbish).require()
        eventually(
            lambda: True if (secret(kubectl) or {})["data"] == held["data"] else None,
            "the Secret is mended",
            10,
        )
        assert same(served(operator.port), from_data(held["data"]).serving.certificate)


def bundle_everywhere(kubectl: Kubectl, kind: str, bundle: bytes) -> bool:
    name = f"{kind}webhookconfiguration/batten"
    webhooks = json.loads(kubectl("get", name, "-o", "json").require().stdout)["webhooks"]
    encoded = base64.b64encode(bundle).decode()
    return all(webhook["clientConfig"].get("caBundle") == encoded for webhook in webhooks)


def test_replicas_that_start_at_once_agree(plane: ControlPlane) -> None:
    with installed(plane) as first:
        plane.end("operator")
        plane.kubectl("delete", "secret", SECRET, "-n", NAMESPACE).require()
        ports = free_ports(3)
        for number, port in enumerate(ports):
            first.launch(f"replica-{number}", port)
        try:
            for number in range(len(ports)):
                eventually(
                    lambda number=number: next(  # type: ignore[misc]
                        (x for x in log(plane, f"replica-{number}") if x["message"] == "serving"),
                        None,
                    ),
                    f"replica {number} serves",
                )
            held = secret(plane.kubectl)
            assert held is not None
            certificate = from_data(held["data"]).serving.certificate
            assert all(same(served(port), certificate) for port in ports)
            stored = [
                line
                for number in range(len(ports))
                for line in log(plane, f"replica-{number}")
                if line["message"] == "certificate stored"
            ]
            assert len(stored) == 1
        finally:
            for number in range(len(ports)):
                plane.end(f"replica-{number}")


@asynccontextmanager
async def api(plane: ControlPlane) -> AsyncIterator[aiohttp.ClientSession]:
    """The API server as an administrator calls it."""
    context = ssl.create_default_context(cafile=str(plane.folder / "ca.crt"))
    context.load_cert_chain(plane.folder / "admin.crt", plane.folder / "admin.key")
    kubeconfig = json.loads(plane.kubeconfig.read_text())
    async with aiohttp.ClientSession(
        base_url=kubeconfig["clusters"][0]["cluster"]["server"],
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(total=20),
    ) as session:
        yield session


async def create_pods(session: aiohttp.ClientSession, until: asyncio.Event) -> int:
    """Create Pods as a dry run, which calls the webhooks too."""
    pod = {
        "metadata": {"generateName": "load-"},
        "spec": {"containers": [{"name": "app", "image": "registry.example/team/app:1.4.2"}]},
    }
    count = 0
    while not until.is_set():
        path = "/api/v1/namespaces/default/pods?dryRun=All"
        async with session.post(path, json=pod) as answer:
            body = await answer.json()
            assert answer.status == 201, body
            security = body["spec"]["containers"][0]["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
        count += 1
    return count


async def connect_anew(session: aiohttp.ClientSession, port: int, until: asyncio.Event) -> int:
    """A new connection each time, trusting what the configuration said a moment ago."""
    count = 0
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/batten"
    while not until.is_set():
        async with session.get(path) as answer:
            webhook = (await answer.json())["webhooks"][0]
        trust = trusting(base64.b64decode(webhook["clientConfig"]["caBundle"]))
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
            writer.close()
            await asyncio.sleep(0.05)
            count += 1
    return count


def test_certificates_rotate_under_load_and_no_request_fails(plane: ControlPlane) -> None:
    async def main(port: int) -> None:
        until = asyncio.Event()
        async with api(plane) as session, asyncio.TaskGroup() as group:
            pods = [group.create_task(create_pods(session, until)) for _ in range(3)]
            anew = group.create_task(connect_anew(session, port, until))
            await asyncio.sleep(36)
            until.set()
        assert sum(task.result() for task in pods) > 200
        assert anew.result() > 100

    plane.kubectl("create", "serviceaccount", "default", "-n", "default")
    with installed(plane, *ROTATING) as operator:
        time.sleep(1)
        seen = len(log(plane))
        asyncio.run(main(operator.port))
        loaded = [x for x in log(plane)[seen:] if x["message"] == "certificate loaded"]
        assert len(loaded) >= 3
        assert not [x for x in log(plane)[seen:] if x["level"] in ("warning", "error")]


def test_without_rights_it_says_so_and_serves_on(plane: ControlPlane) -> None:
    with installed(plane) as operator:
        kubectl = plane.kubectl
        for kind in ("clusterrolebinding/batten", f"-n={NAMESPACE} rolebinding/batten"):
            kubectl("delete", *kind.split()).require()
        seen = len(log(plane))
        operator.kill()
        operator.launch("operator", operator.port)
        said = eventually(
            lambda: next((x for x in log(plane)[seen:] if "forbidden" in x["message"]), None),
            "the refusal is logged",
        )
        assert "the chart's Role and ClusterRole grant what is needed" in said["message"]
        assert plane.running("operator")

        operator.apply_chart()
        operator.wait_ready()
        held = secret(kubectl)
        assert held is not None
        kubectl("delete", "clusterrolebinding/batten").require()
        time.sleep(3)
        assert same(served(operator.port), from_data(held["data"]).serving.certificate)


def test_the_api_server_away_and_back(plane: ControlPlane) -> None:
    with installed(plane) as operator:
        before = served(operator.port)
        pid = json.loads((plane.folder / "kube-apiserver.pid").read_text())["pid"]
        command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
        plane.end("kube-apiserver")
        try:
            time.sleep(3)
            assert same(served(operator.port), before)
            assert operator._ready()
        finally:
            plane.spawn("kube-apiserver", command)
        name = "mutatingwebhookconfiguration/batten"
        broken = json.dumps([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}])
        eventually(
            lambda: plane.kubectl("patch", name, "--type=json", "-p", broken).code == 0 or None,
            "the API server is back",
        )
        held = secret(plane.kubectl)
        assert held is not None
        bundle = from_data(held["data"]).bundle
        eventually(
            lambda: bundle_everywhere(plane.kubectl, "mutating", bundle) or None,
            "the caBundle is mended",
            90,
        )
        assert same(served(operator.port), before)


def test_somebody_elses_certificate(plane: ControlPlane, tmp_path: Path) -> None:
    """It is served from a folder, as a Secret is mounted. The caBundles are left to whoever keeps
    them, and the configurations go with our Namespace all the same."""
    kubectl = plane.kubectl
    store, other = (fresh(("127.0.0.1",), timedelta(days=1), datetime.now(UTC)) for _ in range(2))
    (tmp_path / "tls.crt").write_bytes(store.serving.certificate)
    (tmp_path / "tls.key").write_bytes(store.serving.key)
    bundle = store.bundle.decode()
    with installed(
        plane, f"--certificate-directory={tmp_path}", certificate__caBundle=bundle
    ) as installation:
        dry = ("run", "app", "--image=registry.example/app:1", "--dry-run=server", "-o", "json")
        made = json.loads(kubectl(*dry).require().stdout)
        assert made["spec"]["securityContext"]["runAsNonRoot"] is True
        eventually(lambda: owned(kubectl) or None, "our Namespace owns the configurations")

        installation.stop()
        both = base64.b64encode(other.bundle + store.bundle).decode()
        for kind in KINDS:
            name = f"{kind}webhookconfiguration/batten"
            webhooks = json.loads(kubectl("get", name, "-o", "json").require().stdout)["webhooks"]
            patch: dict[str, Any] = {
                "metadata": {"ownerReferences": None},
                "webhooks": [
                    {"name": each["name"], "clientConfig": {"caBundle": both}} for each in webhooks
                ],
            }
            kubectl("patch", name, "--type=strategic", "-p", json.dumps(patch)).require()
        assert not owned(kubectl)
        installation.start()
        eventually(lambda: owned(kubectl) or None, "the operator has looked at both")
        assert {ca_bundle(kubectl, kind) for kind in KINDS} == {other.bundle + store.bundle}
        kubectl(*dry).require()
        assert secret(kubectl) is None


def owned(kubectl: Kubectl) -> bool:
    namespace = json.loads(kubectl("get", "namespace", NAMESPACE, "-o", "json").require().stdout)
    configurations = (
        json.loads(kubectl("get", f"{kind}webhookconfiguration/batten", "-o", "json").stdout)
        for kind in KINDS
    )
    return all(
        [owner["uid"] for owner in each["metadata"].get("ownerReferences") or ()]
        == [namespace["metadata"]["uid"]]
        for each in configurations
    )
