"""Each right that the chart grants is used, and each that is used is granted.

Webhooks and controller run as processes, as the chart's ServiceAccounts and with its environment,
while what they are for is done. The API server's audit log tells of every request by which binding
it was let in. There is no kubelet: a server of our own stands for it, as far as it tells the API
server what a scan's container printed, and a patch for what it says of that container's end.
"""

from __future__ import annotations

import json
import re
import ssl
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from batten_chart import NAMESPACE, Rendered, render
from batten_cluster import ControlPlane, free_ports
from batten_e2e import Namespace, eventually, new_namespace, served
from batten_evidence import ago, trivy_of
from batten_install import write_kubeconfig
from batten_pinning import workload
from batten_registry import Registry, registry

from batten_operator.certificates import fresh

pytestmark = pytest.mark.cluster

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:"
POLL_SECONDS = 120.0
DEFINITIONS = {
    "vulnerabilityreports.aquasecurity.github.io": "Namespaced",
    "clustervulnerabilityreports.aquasecurity.github.io": "Cluster",
    "policyreports.wgpolicyk8s.io": "Namespaced",
    "reports.openreports.io": "Namespaced",
}
VERSIONS = {"wgpolicyk8s.io": "v1alpha2"}


class Right(NamedTuple):
    """`role` is `Role/NAME` or `ClusterRole/NAME`."""

    role: str
    group: str
    resource: str
    verb: str


# Used all the time, but told of as that of a wider one, unless these values take that away.
OTHERWISE: dict[Right, dict[str, Any]] = {
    Right("Role/batten", "", "secrets", "get"): {"images": {"pullSecrets": False}},
}


def granted(rendered: Rendered, account: str) -> set[Right]:
    bound = {
        (binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for binding in rendered.all(kind)
        if [subject["name"] for subject in binding["subjects"]] == [account]
    }
    return {
        Right(f"{role['kind']}/{role['metadata']['name']}", group, resource, verb)
        for role in rendered.objects
        if (role["kind"], role["metadata"]["name"]) in bound
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(log: Path, account: str) -> tuple[set[Right], list[str]]:
    """What was let in by roles of ours, and the URIs that were not let in at all."""
    rights, refused = set[Right](), []
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["user"].get("username") != ACCOUNT + account:
            continue
        annotations = event.get("annotations") or {}
        if annotations.get("authorization.k8s.io/decision") != "allow":
            refused.append(f"{event['verb']} {event['requestURI']}")
            continue
        # RBAC: allowed by RoleBinding "x/y" of Role "y" to ServiceAccount "x/z"
        words = annotations["authorization.k8s.io/reason"].split()
        role = f"{words[words.index('of') + 1]}/{words[words.index('of') + 2]}".replace('"', "")
        what = event.get("objectRef") or {}
        if "/batten" in role:
            resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
            rights.add(Right(role, what.get("apiGroup", ""), resource, event["verb"]))
    return rights, refused


def definition(name: str, scope: str) -> dict[str, Any]:
    """Stands for somebody else's: that there is such a kind, and nothing of its fields."""
    plural, _, group = name.partition(".")
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    kinds = {"policyreports": "PolicyReport", "reports": "Report"}
    version = {
        "name": VERSIONS.get(group, "v1alpha1"),
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": anything},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "kind": kinds.get(plural, plural.title())},
            "versions": [version],
        },
    }


@contextmanager
def kubelet(folder: Path, printed: dict[str, Any]) -> Iterator[int]:
    """The port of what stands for it: whatever container is asked for has printed this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(printed).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    pair = fresh(("127.0.0.1",), timedelta(days=1), datetime.now(UTC)).serving
    (folder / "kubelet.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "kubelet.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class Scene:
    """A cluster in which all is done that the operator is for."""

    def __init__(self, plane: ControlPlane, shop: Namespace, images: Registry) -> None:
        self.plane = plane
        self.shop = shop
        self.images = images
        self.port, self.http = free_ports(2)
        self.values: dict[str, Any] = {
            "mode": "enforce",
            "images": {"plainHttp": [images.host], "digestTTL": "1s"},
            "certificate": {"lifetime": "30s", "propagation": "2s"},
        }
        self.rendered = render(**self.values)

    def before(self) -> None:
        """What was there before the operator, which gives it digests."""
        self.apply(*(definition(*each) for each in DEFINITIONS.items() if "open" not in each[0]))
        auth = {"auths": {self.images.host: {"username": "robot", "password": "secret"}}}
        pull = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pull"},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps(auth)},
        }
        self.shop.apply(pull).require()
        self.shop.apply(*self.workloads("old")).require()
        self.shop.pods(4)

    def workloads(self, name: str) -> list[dict[str, Any]]:
        image = f"{self.images.host}/app:1"
        made = [workload(kind, image, f"{name}-{kind.lower()}") for kind in KINDS]
        for each in made:
            each["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "pull"}]
        # Of which the ServiceAccount's pull secrets are asked for.
        return [*made, workload("Deployment", image, f"{name}-bare")]

    def apply(self, *objects: dict[str, Any]) -> None:
        """Once the webhooks answer, which have a say in objects of our own."""
        command = ("apply", "--server-side", "--force-conflicts", "-f", "-")
        text = yaml.safe_dump_all(objects)

        def applied() -> bool | None:
            done = self.plane.kubectl(*command, stdin=text)
            assert done.code == 0 or "failed calling webhook" in done.stderr, done.stderr
            return done.code == 0 or None

        eventually(applied, "the objects are taken")

    def start(self) -> None:
        """The chart's own objects; its webhooks by an address that the API server reaches."""
        url = f"https://127.0.0.1:{self.port}"
        others = render(**self.values, webhook={"url": url})
        webhooks = [each for each in others.objects if each["kind"].endswith("Configuration")]
        skipped = {"Deployment", "Pod", *(each["kind"] for each in webhooks)}
        kept = [each for each in self.rendered.objects if each["kind"] not in skipped]
        crds = [each for each in kept if each["kind"] == "CustomResourceDefinition"]
        self.apply(*crds)
        served(self.plane.kubectl, *(each["metadata"]["name"] for each in crds))
        self.apply(*kept, *webhooks)
        for account in ("batten", "batten-controller"):
            controller = account != "batten"
            file = self.plane.folder / f"{account}.kubeconfig"
            write_kubeconfig(self.plane.kubectl, account, file)
            own = f"-http=127.0.0.1:{self.http}" if controller else f"=127.0.0.1:{self.port}"
            other = [] if controller else ["--listen-http="]
            self.plane.spawn(
                account,
                [
                    *(sys.executable, "-m", "batten_operator", f"--url={url}"),
                    *(f"--listen{own}", *other),
                ],
                **self.rendered.environment(controller=controller),
                KUBECONFIG=str(file),
            )

    def policies(self) -> None:
        wanted = {"validationActions": ["Warn"], "scanWith": "trivy"}
        other = {"validationActions": ["Warn"], "scanWith": "other", "maxAge": "1s"}
        nowhere = {"namespaceSelector": {"matchLabels": {"no": "where"}}}
        soon = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}"
        self.apply(
            ours("HardeningPolicy", "scans", rules={"scanned-image": wanted}),
            ours("HardeningPolicy", "other", rules={"scanned-image": other}, match=nowhere),
            ours(
                "HardeningException",
                "soon",
                reason="a test",
                expires=soon,
                rules=["no-privileged"],
                match={"namespaces": ["shop"]},
            ),
        )
        # Of what runs nowhere, and too old to count; as a webhook has asked for it.
        unused = ours(
            "ImageScan",
            "unused",
            image="registry.example/app:1",
            digests=[f"sha256:{'0' * 64}"],
            scanner={"name": "trivy"},
            scannedAt=ago(60),
            request={"template": "other", "namespace": "shop"},
        )
        create = ("create", f"--as={ACCOUNT}batten", "-f", "-")
        self.plane.kubectl(*create, stdin=json.dumps(unused)).require()

    def served_by(self, port: int) -> None:
        """A Node where what stands for the kubelet listens."""
        head = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}
        self.plane.kubectl("create", "-f", "-", stdin=json.dumps(head)).require()
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        patch = ("patch", "node", "node", "--subresource=status", "-p")
        self.plane.kubectl(*patch, json.dumps({"status": status})).require()

    def end_scans(self) -> None:
        """Bind the Pods of scans to the Node, and say that they have succeeded."""
        own = Namespace(NAMESPACE, self.plane.kubectl)
        for pod in own.get("pods", "--selector=batten.dev/scan")["items"]:
            name = pod["metadata"]["name"]
            if pod["spec"].get("nodeName"):
                continue
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name},
                "target": {"kind": "Node", "name": "node"},
            }
            path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/binding"
            own.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding)).require()
            ended = json.dumps({"status": {"phase": "Succeeded"}})
            own.kubectl("patch", "pod", name, "--subresource=status", "-p", ended).require()

    def stir(self, turn: int) -> None:
        """Something else governs, so that the controller looks at once; reports get stale."""
        patch = json.dumps({"spec": {"priority": turn % 100}})
        self.plane.kubectl("patch", "hardeningpolicy", "scans", "--type=merge", "-p", patch)
        for plural, kind in (("policyreports.wgpolicyk8s.io", "PolicyReport"), REPORT):
            group = plural.partition(".")[2]
            stray = {
                "apiVersion": f"{group}/{VERSIONS.get(group, 'v1alpha1')}",
                "kind": kind,
                "metadata": {
                    "name": f"stray-{turn}",
                    "labels": {"app.kubernetes.io/managed-by": "batten"},
                },
            }
            self.shop.kubectl("create", "-f", "-", stdin=json.dumps(stray))
            self.shop.kubectl(
                "annotate", plural, "--all", "--overwrite", "batten.dev/report-digest="
            )
        self.shop.kubectl("run", f"privileged-{turn}", "--image=app", "--privileged")


REPORT = ("reports.openreports.io", "Report")
KINDS = ("Deployment", "StatefulSet", "Job")


def ours(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    head = {"apiVersion": "batten.dev/v1alpha1", "kind": kind}
    return {**head, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    flags = ("--kubelet-preferred-address-types=InternalIP",)
    folder = tmp_path_factory.mktemp("rights")
    with (
        registry(folder) as images,
        ControlPlane(folder / "cluster", apiserver_arguments=flags) as plane,
        new_namespace(plane.kubectl, "shop") as shop,
    ):
        plane.kubectl("create", "namespace", NAMESPACE).require()
        pushed = images.push("app", "1", User="1000")
        found = Scene(plane, shop, images)
        with kubelet(folder, trivy_of(images, "app:1", pushed)) as port:
            found.before()
            found.start()
            found.served_by(port)
            found.policies()
            yield found


def test_every_right_is_used_and_no_other(scene: Scene) -> None:
    accounts = ("batten", "batten-controller")
    turn = 0

    def unused() -> set[Right]:
        """What is left to be used; nothing is ever not granted."""
        nonlocal turn
        turn += 1
        if turn % 5 == 0:
            scene.stir(turn)
            scene.end_scans()
        if turn == 15:
            scene.shop.apply(*scene.workloads("new"))
        left = set[Right]()
        for account in accounts:
            rights, refused = used(scene.plane.audit_log, account)
            assert refused == []
            left |= granted(scene.rendered, account) - rights
        left -= OTHERWISE.keys()
        if left and {right.group for right in left} == {"openreports.io"}:
            scene.apply(definition("reports.openreports.io", "Namespaced"))
        return left

    try:
        eventually(lambda: True if not unused() else None, "all is used", POLL_SECONDS)
    except AssertionError:
        assert unused() == set()


def test_the_controller_counts_scans_of_what_runs(scene: Scene) -> None:
    """Pods that were there before are named by a tag, of which no scan counts."""
    turn = 100

    def counted() -> dict[str, float] | None:
        nonlocal turn
        turn += 1
        scene.stir(turn)
        scene.end_scans()
        with urllib.request.urlopen(f"http://127.0.0.1:{scene.http}/metrics") as answer:
            text = answer.read().decode()
        found = re.findall(r'^batten_running_images\{scan="(\w+)"\} (\S+)$', text, re.MULTILINE)
        counts = {name: float(number) for name, number in found}
        return counts if counts.get("passed") else None

    counts = eventually(counted, "what runs is known to be scanned", POLL_SECONDS)
    assert counts == {"passed": 1, "missing": 1, "refused": 0, "unknown": 0}


@pytest.mark.parametrize(("right", "values"), OTHERWISE.items())
def test_what_another_right_covers_is_needed_where_that_is_not(
    right: Right, values: dict[str, Any]
) -> None:
    """Who is let in by a ClusterRole is not seen to be let in by a Role, too."""
    wider = {"group": right.group, "resource": right.resource, "verb": right.verb}
    for rendered, there in ((render(), True), (render(**values), False)):
        others = granted(rendered, "batten") - {right}
        assert right in granted(rendered, "batten")
        assert any(each._asdict().items() >= wider.items() for each in others) is there
