"""The main job where everything is real: nodes, kubelets, a network, the chart's own Deployment,
Service and certificates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batten_e2e import Kubectl, Namespace, eventually, run
from batten_image import NAME as IMAGE
from batten_install import NAMESPACE, RELEASE
from batten_kind import KindCluster
from batten_tools import helm

pytestmark = pytest.mark.cluster

# Says nothing of security, as most are; the image is at hand on every node.
SERVING = {
    "name": "web",
    "image": IMAGE,
    "command": ["python3", "-m", "http.server", "8000", "--directory", "/opt"],
    "ports": [{"containerPort": 8000}],
    "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
}
# What the kernel says of the first process of the container.
LOOK = (
    "import json, pathlib\n"
    "lines = pathlib.Path('/proc/1/status').read_text().splitlines()\n"
    "told = dict(line.split(':\\t', 1) for line in lines if ':\\t' in line)\n"
    "written = {}\n"
    "for folder in ('/opt', '/tmp'):\n"
    "    try:\n"
    "        written[folder] = pathlib.Path(folder, 'mine').write_text('x')\n"
    "    except OSError as error:\n"
    "        written[folder] = error.strerror\n"
    "print(json.dumps({**told, **written}))\n"
)


def deployment(**fields: Any) -> dict[str, Any]:
    labels = {"app": "web"}
    spec = {"containers": [{**SERVING, **fields}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def rolled_out(namespace: Namespace) -> None:
    status = ("rollout", "status", "deployment/web", "--timeout=90s")
    namespace.run("-n", namespace.name, *status, timeout=120).require()


def test_a_deployment_that_says_nothing_of_security_runs_hardened(namespace: Namespace) -> None:
    namespace.apply(deployment()).require()
    rolled_out(namespace)
    names = [pod["metadata"]["name"] for pod in namespace.pods(2, "app=web")]
    for name in names:
        asked = namespace.kubectl("exec", name, "--", "python3", "-c", LOOK)
        told = json.loads(asked.require().stdout)
        assert told["Uid"].split()[0] != "0"
        assert (told["CapEff"], told["CapBnd"]) == ("0" * 16, "0" * 16)
        assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
        assert (told["/opt"], told["/tmp"]) == ("Read-only file system", 1)  # noqa: S108
        path = f"/api/v1/namespaces/{namespace.name}/pods/{name}:8000/proxy/"
        assert "Directory listing" in namespace.run("get", "--raw", path).require().stdout
    # What was applied is as it was.
    spec = namespace.get("deployment", "web")["spec"]["template"]["spec"]
    assert "securityContext" not in spec["containers"][0]
    # They stop as they are told to, and others take their place.
    namespace.kubectl("rollout", "restart", "deployment/web").require()
    rolled_out(namespace)


def test_an_unsafe_pod_is_refused_in_our_words(namespace: Namespace) -> None:
    command = ("run", "root", f"--image={IMAGE}", "--privileged")
    done = namespace.kubectl(*command)
    assert done.code
    assert 'no-privileged: container "root"' in done.stderr
    assert namespace.get("pods")["items"] == []
    namespace.apply(deployment(securityContext={"privileged": True}))
    assert namespace.get("deployments")["items"] == []


def test_the_release_passes_its_own_test(cluster: KindCluster) -> None:
    place = (f"--kubeconfig={cluster.kubectl.kubeconfig}", f"--namespace={NAMESPACE}")
    told = run(helm(), "test", RELEASE, *place, "--timeout=2m", timeout=150).require()
    assert "Phase:          Succeeded" in told.stdout


def test_a_node_is_drained_and_the_webhooks_answer_meanwhile(
    cluster: KindCluster, namespace: Namespace
) -> None:
    kubectl, release = cluster.kubectl, cluster.released
    nodes = [pod["spec"]["nodeName"] for pod in release.settled()]
    if len(set(nodes)) == 1:  # since a node was drained
        release.restart()
        nodes = [pod["spec"]["nodeName"] for pod in release.pods()]
    first, second = nodes
    assert first != second
    drain = ("drain", first, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    try:
        kubectl(*drain, "--timeout=120s", timeout=150).require()
        refused = namespace.kubectl("run", "root", f"--image={IMAGE}", "--privileged")
        assert "no-privileged" in refused.stderr
    finally:
        kubectl("uncordon", first).require()


def test_the_controller_leads_and_writes_what_it_finds(
    kubectl: Kubectl, namespace: Namespace
) -> None:
    policy = {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningPolicy",
        "metadata": {"name": namespace.name},
        "spec": {"match": {"namespaceSelector": {"matchLabels": {"kind-tour": namespace.name}}}},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(policy)).require()
    try:

        def status() -> Any:
            asked = kubectl("get", "hardeningpolicy", namespace.name, "-o", "json").require()
            return json.loads(asked.stdout).get("status")

        eventually(status, "the controller writes the policy's status", 60)
    finally:
        kubectl("delete", "hardeningpolicy", namespace.name)
