"""The chart on a real API server: what it takes, what it asks of us, and what it lets us do."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from batten_chart import CHART, NAMESPACE, Rendered, render, without_definitions
from batten_cluster import ControlPlane, free_ports
from batten_e2e import Kubectl, Namespace, eventually, new_namespace, run, served
from batten_tools import go_module, helm

from batten_operator.certificates import fresh

pytestmark = pytest.mark.cluster

NOBODY = "https://127.0.0.1:1"  # where nothing listens: a request that is asked about fails
CALLED = "failed calling webhook"
FAILS_OPEN = "apiserver_admission_webhook_fail_open_count"
# Whose definitions are there as files of a Go module, at which version.
OTHERS = (
    (
        ("github.com/cert-manager/cert-manager", "v1.21.2"),
        "deploy/crds",
        ("cert-manager.io_certificates", "cert-manager.io_issuers"),
    ),
    (
        ("github.com/prometheus-operator/prometheus-operator", "v0.93.1"),
        "example/prometheus-operator-crd",
        ("monitoring.coreos.com_servicemonitors", "monitoring.coreos.com_prometheusrules"),
    ),
)
FAIL = {"mutate": "Ignore", "pods": "Fail", "templates": "Fail"}
Apply = Callable[..., Rendered]


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Namespace]:
    with new_namespace(kubectl, f"chart-{uuid.uuid4().hex[:8]}") as fresh:
        yield fresh


def pod(name: str = "app", **metadata: Any) -> dict[str, Any]:
    container = {
        "name": "app",
        "image": "registry.example/team/app:1.4.2",
        "resources": {"requests": {"cpu": "10m"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [container]},
    }


def called(namespace: Namespace) -> None:
    """Wait until the API server follows the configurations."""
    eventually(
        lambda: True if CALLED in namespace.apply(pod("probe")).stderr else None,
        "the API server asks about Pods",
    )


@pytest.fixture(scope="module")
def others(plane: ControlPlane) -> ControlPlane:
    """With the kinds of cert-manager and of the Prometheus Operator, as they define them."""
    for (module, version), folder, names in OTHERS:
        for name in names:
            file = go_module(module, version) / folder / f"{name}.yaml"
            plane.kubectl("apply", "--server-side", "-f", str(file)).require()
            group, _, plural = name.partition("_")
            served(plane.kubectl, f"{plural}.{group}")
    return plane


EVERYTHING: dict[str, Any] = {
    "autoscaling": {"enabled": True},
    "certificate": {"certManager": {"enabled": True}},
    "networkPolicy": {
        "enabled": True,
        "apiServers": ["192.0.2.0/24", "2001:db8::/32"],
        "metricsFrom": [{"namespaceSelector": {}}],
        "egressTo": [{"ipBlock": {"cidr": "0.0.0.0/0"}}],
    },
    "monitoring": {
        name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")
    },
}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"mode": "enforce"},
        {"webhook": {"url": NOBODY}},
        EVERYTHING,
        {"certificate": {"certManager": {"enabled": True, "issuer": {"name": "own"}}}},
        {"certificate": {"existingSecret": "tls"}, "webhook": {"annotations": {"a.b/c": "d"}}},
    ],
)
@pytest.mark.usefixtures("others")
def test_the_api_server_takes_every_object(kubectl: Kubectl, values: dict[str, Any]) -> None:
    text = render(**values).text
    applied = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert applied.code == 0, applied.stderr
    assert "Warning" not in applied.stderr
    assert len(applied.stdout.splitlines()) == len(render(**values).objects)


@pytest.mark.parametrize("controller", [False, True])
def test_its_own_pods_pass_pod_security_restricted(
    kubectl: Kubectl, defaults: Rendered, controller: bool
) -> None:
    """Kubernetes' own admission judges the Pod that the Deployment would create."""
    template = defaults.one("Deployment", controller=controller)["spec"]["template"]
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    with new_namespace(kubectl, f"chart-{uuid.uuid4().hex[:8]}", labels) as restricted:
        spec = {**template["spec"], "serviceAccountName": "default"}
        value = {**pod(labels=template["metadata"]["labels"]), "spec": spec}
        restricted.apply(value).require()
        refused = restricted.apply(pod("plain"))
        assert "violates PodSecurity" in refused.stderr


def test_the_api_server_takes_the_one_file(kubectl: Kubectl) -> None:
    file = str(CHART.parents[1] / "deploy" / "install.yaml")
    kubectl("apply", "--dry-run=server", "--validate=strict", "-f", file).require()


def test_helm_test_asks_whether_the_webhooks_are_ready(defaults: Rendered, tmp_path: Path) -> None:
    """What the Pod runs, here: the name of its Service is all that needs a cluster."""
    pod = next(each for each in defaults.all("Pod") if "helm.sh/hook" in str(each))
    *command, url = pod["spec"]["containers"][0]["command"]
    service = defaults.one("Service")["metadata"]["name"]
    assert url == f"http://{service}.{NAMESPACE}.svc:8080/readyz"
    assert command[0] == "python"
    port, http = free_ports(2)
    here = url.replace(f"{service}.{NAMESPACE}.svc:8080", f"127.0.0.1:{http}")
    test = (sys.executable, *command[1:], here)
    assert "refused" in run(*test).stderr
    addresses = (f"--listen=127.0.0.1:{port}", f"--listen-http=127.0.0.1:{http}")
    configurations = ("--mutating-configuration=", "--validating-configuration=")
    alone = (f"--certificate-directory={tmp_path}", "--no-policies", *configurations)
    operator = [sys.executable, "-m", "batten_operator", *addresses, *alone]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(operator, stdout=log, stderr=log)
    try:
        eventually(lambda: "503" in run(*test).stderr or None, "it is there, and not ready")
        pair = fresh(("127.0.0.1",), timedelta(days=1), datetime.now(UTC)).serving
        (tmp_path / "tls.key").write_bytes(pair.key)
        (tmp_path / "tls.crt").write_bytes(pair.certificate)
        eventually(lambda: run(*test).stdout == "ok\n" or None, "it is ready")
    finally:
        process.kill()
        process.wait()


# --- what is asked ------------------------------------------------------------------------------


def test_what_the_api_server_asks_about(applied: Apply, namespace: Namespace) -> None:
    """Each request is made while nobody answers, so that being asked about is being refused."""
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]},
        },
    }
    namespace.apply(pod(), pod("bound"), pod("evicted"), deployment).require()
    replica_set = eventually(
        lambda: next(iter(namespace.get("replicasets")["items"]), None), "the ReplicaSet"
    )["metadata"]["name"]
    applied(webhook={"url": NOBODY, "failurePolicy": FAIL})
    called(namespace)

    def asked(*arguments: str, stdin: str | None = None) -> bool:
        output = namespace.kubectl(*arguments, stdin=stdin)
        assert output.code == 0 or CALLED in output.stderr, output.stderr
        return output.code != 0

    # a Pod's spec, and every way to it
    assert asked("run", "another", "--image=registry.example/team/app:1.4.2")
    assert asked("set", "image", "pod/app", "app=registry.example/team/app:2")
    assert asked("debug", "app", "--image=busybox:1.36", "--quiet", "--attach=false")
    resize = {"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "9m"}}}]}}
    assert asked("patch", "pod", "app", "--subresource=resize", "-p", json.dumps(resize))
    # a template, and its update
    assert asked("create", "deployment", "new", "--image=registry.example/team/app:1.4.2")
    assert asked("label", "deployment", "web", "team=a")

    # nothing else of a Pod
    assert not asked("label", "pod", "app", "team=a")
    condition = {"conditions": [{"type": "Seen", "status": "True"}]}
    status = json.dumps({"status": condition})
    assert not asked("patch", "pod", "app", "--subresource=status", "-p", status)
    target = {"target": {"kind": "Node", "name": "node"}}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound"}, **target}
    path = f"/api/v1/namespaces/{namespace.name}/pods"
    raw = ("create", "--raw")
    assert not asked(*raw, f"{path}/bound/binding", "-f", "-", stdin=json.dumps(binding))
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evicted"}}
    assert not asked(*raw, f"{path}/evicted/eviction", "-f", "-", stdin=json.dumps(eviction))
    assert not asked("delete", "pod", "app", "--wait=false")
    # what a controller does with what it owns, and what happens to a status
    assert not asked("label", "replicaset", replica_set, "team=a")
    assert not asked("patch", "deployment", "web", "--subresource=status", "-p", '{"status": {}}')


def test_api_servers_count_what_they_let_pass(applied: Apply, namespace: Namespace) -> None:
    """By the name and labels that an alert and the dashboard ask for."""
    applied(webhook={"url": NOBODY, "failurePolicy": {"mutate": "Ignore", "pods": "Ignore"}})
    counted = f'{FAILS_OPEN}{{name="mutate.batten.dev",type="admit"}} '

    def let_pass() -> bool | None:
        namespace.kubectl("run", "passed", "--image=app", "--dry-run=server").require()
        metrics = namespace.run("get", "--raw", "/metrics").require().stdout
        return counted in metrics or None

    eventually(let_pass, "the API server counts")


def test_a_large_pod_is_within_the_cost_limit_of_the_conditions(
    applied: Apply, namespace: Namespace
) -> None:
    """An update of a Pod near the API server's limit is compared, not refused for its cost."""
    large = pod("large")
    large["spec"]["containers"][0]["env"] = [
        {"name": f"NAME_{number}", "value": f"{number:080}"} for number in range(8000)
    ]
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(large)).require()
    applied(webhook={"url": NOBODY, "failurePolicy": FAIL})
    called(namespace)
    namespace.kubectl("label", "pod", "large", "team=a").require()
    edited = namespace.kubectl("set", "image", "pod/large", "app=registry.example/team/app:2")
    assert CALLED in edited.stderr


def test_exempt_namespaces(applied: Apply, namespace: Namespace, kubectl: Kubectl) -> None:
    with new_namespace(kubectl, f"chart-{uuid.uuid4().hex[:8]}") as exempt:
        webhook = {"url": NOBODY, "failurePolicy": FAIL, "exemptNamespaces": [exempt.name]}
        applied(webhook=webhook)
        called(namespace)
        for name in (exempt.name, NAMESPACE, "kube-system"):
            run_pod = ("run", "app", "--image=registry.example/team/app:1", "--dry-run=server")
            kubectl("--namespace", name, *run_pod).require()


# --- the caBundle -------------------------------------------------------------------------------


def configurations(kubectl: Kubectl) -> list[dict[str, Any]]:
    kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations"
    asked = kubectl("get", kinds, "-l", "app.kubernetes.io/name=batten", "-o", "json").require()
    found = json.loads(asked.stdout)["items"]
    return [webhook for value in found for webhook in value["webhooks"]]


def keep_bundle(kubectl: Kubectl) -> str:
    """Put a caBundle where the operator does, the way it does."""
    ca = json.loads(kubectl("config", "view", "--raw", "-o", "json").require().stdout)
    bundle: str = ca["clusters"][0]["cluster"]["certificate-authority-data"]
    for webhook, kind in (
        ("mutate.batten.dev", "mutating"),
        ("revisions.mutate.batten.dev", "mutating"),
        ("scans.mutate.batten.dev", "mutating"),
        ("pods.validate.batten.dev", "validating"),
        ("validate.batten.dev", "validating"),
        ("own.validate.batten.dev", "validating"),
        ("namespaces.validate.batten.dev", "validating"),
    ):
        patch = {"webhooks": [{"name": webhook, "clientConfig": {"caBundle": bundle}}]}
        name = f"{kind}webhookconfiguration/batten"
        kubectl("patch", name, "--type=strategic", "-p", json.dumps(patch)).require()
    return bundle


@pytest.mark.parametrize("how", ["helm, server-side", "helm, client-side", "kubectl"])
def test_an_upgrade_leaves_the_bundle(kubectl: Kubectl, plane: Any, how: str) -> None:
    def install(*settings: str) -> None:
        if how == "kubectl":
            texts = ("template", "batten", str(CHART), "--namespace", NAMESPACE, *settings)
            kubectl("apply", "-f", "-", stdin=run(helm(), *texts).require().stdout).require()
            return
        server = "server" in how
        # The definitions of another test may still be there.
        side = ("--server-side=true", "--force-conflicts") if server else ("--server-side=false",)
        options = ("--namespace", NAMESPACE, "--kubeconfig", str(plane.kubeconfig), *side)
        command = ("upgrade", "--install", "--take-ownership", "batten", str(CHART))
        command += (*options, *settings)
        run(helm(), *command).require()

    install()
    try:
        bundle = keep_bundle(kubectl)
        install("--set", "mode=enforce", "--set", "webhook.timeoutSeconds=7")
        after = configurations(kubectl)
        assert {webhook["timeoutSeconds"] for webhook in after} == {7}
        assert {webhook["clientConfig"]["caBundle"] for webhook in after} == {bundle}
    finally:
        if how == "kubectl":
            kubectl("delete", "-f", "-", stdin=without_definitions(render())).require()
        else:
            options = ("--namespace", NAMESPACE, "--kubeconfig", str(plane.kubeconfig))
            run(helm(), "uninstall", "batten", *options).require()
            # The definitions stay, and with them every policy and exception.
            stayed = kubectl("get", "crd", *CRDS, "-o", "name").require().stdout.split()
            assert len(stayed) == len(CRDS)
    assert not configurations(kubectl)


# --- the operator's rights ----------------------------------------------------------------------

SECRET = "secrets/batten-webhook-certificate"  # noqa: S105
JUDGING = ("hardeningpolicies.batten.dev", "hardeningexceptions.batten.dev")
CRDS = (*JUDGING, "imageprofiles.batten.dev")
VALIDATING = "validatingwebhookconfigurations"
MUTATING = "mutatingwebhookconfigurations"


# What the images of a Pod are known by: as the kubelet asks, and what stands with its revision.
IMAGE_RIGHTS = [
    *(("get", kind, "-A") for kind in ("secrets", "serviceaccounts")),
    *(
        ("get", kind, "-A")
        for kind in ("replicasets.apps", "controllerrevisions.apps", "jobs.batch")
    ),
]
RIGHTS = [
    *IMAGE_RIGHTS,
    *((verb, SECRET, "-n", NAMESPACE) for verb in ("get", "list", "watch", "update")),
    ("create", "secrets", "-n", NAMESPACE),
    *((verb, "namespaces") for verb in ("get", "list", "watch")),
    *((verb, crd, "-A") for crd in CRDS for verb in ("list", "watch")),
    ("create", "events.events.k8s.io", "-A"),
    *((verb, f"{VALIDATING}/batten") for verb in ("get", "list", "watch", "patch")),
    *((verb, f"{MUTATING}/batten") for verb in ("get", "list", "watch", "patch")),
]
NO_RIGHTS = [
    ("list", "secrets", "-n", NAMESPACE),
    *((verb, "secrets", "-A") for verb in ("list", "watch", "create", "update", "delete")),
    *((verb, "replicasets.apps", "-A") for verb in ("list", "patch")),
    ("delete", SECRET, "-n", NAMESPACE),
    ("create", "secrets", "-n", "default"),
    *((verb, "namespaces") for verb in ("create", "update", "patch", "delete")),
    *((verb, crd, "-A") for crd in CRDS for verb in ("get", "create", "update", "patch", "delete")),
    ("update", CRDS[0], "--subresource=status", "-A"),
    ("patch", f"{VALIDATING}/other"),
    ("list", VALIDATING),
    ("create", VALIDATING),
    ("delete", f"{MUTATING}/batten"),
    ("list", "pods", "-A"),
    ("impersonate", "users"),
]


CONTROLLER_RIGHTS = [
    *(("get", kind, "-A") for kind in ("secrets", "serviceaccounts")),
    *(
        (verb, kind, "-A")
        for kind in ("replicasets.apps", "controllerrevisions.apps", "jobs.batch")
        for verb in ("list", "patch")
    ),
    *((verb, crd, "-A") for crd in CRDS for verb in ("list", "watch")),
    *(("update", crd, "--subresource=status", "-A") for crd in JUDGING),
    ("list", "pods", "-A"),
    ("list", "deployments.apps", "-A"),
    ("list", "cronjobs.batch", "-A"),
    ("create", "events.events.k8s.io", "-A"),
    ("create", "leases.coordination.k8s.io", "-n", NAMESPACE),
    ("update", "leases.coordination.k8s.io/batten-controller", "-n", NAMESPACE),
]
CONTROLLER_NO_RIGHTS = [
    ("list", "secrets", "-A"),
    ("create", "pods", "-A"),
    *((verb, "deployments.apps", "-A") for verb in ("update", "patch")),
    *((verb, "replicasets.apps", "-A") for verb in ("create", "update", "delete")),
    ("update", CRDS[0], "-A"),
    ("create", CRDS[1], "-A"),
    ("update", "leases.coordination.k8s.io", "-n", "default"),
    ("patch", f"{VALIDATING}/batten"),
    ("impersonate", "users"),
]


@pytest.mark.parametrize(
    ("account", "rights", "no_rights"),
    [
        ("batten", RIGHTS, NO_RIGHTS),
        ("batten-controller", CONTROLLER_RIGHTS, CONTROLLER_NO_RIGHTS),
    ],
)
def test_it_may_do_this_and_no_more(
    applied: Apply,
    kubectl: Kubectl,
    account: str,
    rights: list[tuple[str, ...]],
    no_rights: list[tuple[str, ...]],
) -> None:
    applied()
    kubectl("wait", "--for=condition=Established", "crd", *CRDS).require()
    user = f"--as=system:serviceaccount:{NAMESPACE}:{account}"

    def may(*arguments: str) -> bool:
        return kubectl("auth", "can-i", *arguments, user).stdout.strip() == "yes"

    eventually(lambda: may(*rights[-1]) or None, "the roles take effect")
    assert [right for right in rights if not may(*right)] == []
    assert [right for right in no_rights if may(*right)] == []


def test_a_watch_by_name_is_allowed(applied: Apply, kubectl: Kubectl) -> None:
    """As kopf asks: a list and a watch of all, with a field selector that names the one."""
    applied()
    user = f"--as=system:serviceaccount:{NAMESPACE}:batten"
    selector = "--field-selector=metadata.name=batten"
    eventually(
        lambda: True if kubectl("get", VALIDATING, selector, user).code == 0 else None,
        "the configuration is listed",
    )
    assert kubectl("get", VALIDATING, user).code
