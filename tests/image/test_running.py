"""The image as a cluster runs it: the chart, installed by Helm on a real API server and a node.

Of a cluster only kube-proxy and its DNS are missing: a forwarder stands for the one at the API
server's own address, and API servers find our Service by its endpoints.
"""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from batten_clouds import ACR, ECR, GAR
from batten_cluster import ControlPlane
from batten_command import batten
from batten_e2e import Namespace, eventually, new_namespace, pod, run
from batten_image import NAME, operator_image, why_no_image
from batten_install import CHART, NAMESPACE, RELEASE
from batten_node import PAUSE, Node, api_service, node
from batten_tools import helm, why_no_node

WHY_NOT = why_no_node() or why_no_image() or ("" if shutil.which("ip") else "ip is missing")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"no image on a node: {WHY_NOT}"),
]
# A program of three that import what they are asked for takes its time to the first answer.
SECONDS = 180.0
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
# Each of its libraries is loaded at the start, where one of its registries is listed.
VALUES = {
    "mode": "enforce",
    "images": {"cloudRegistries": [ECR, GAR, ACR]},
    "shutdown": {"preStopSleepSeconds": 1, "drainSeconds": 1},  # no clients that have to unlearn
}
# As botocore is used: its data of ECR and STS is in the image.
CREDENTIALS = """\
from botocore.session import Session
session = Session()
for name in ("ecr", "sts"):
    client = session.create_client(name, region_name="eu-west-1")
    print(client.meta.endpoint_url, len(client.meta.service_model.operation_names) > 5)
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    archive = operator_image()
    folder = tmp_path_factory.mktemp("node")
    plane = ControlPlane(
        folder / "plane", apiserver_arguments=("--enable-aggregator-routing=true",)
    )
    with plane, api_service(plane), node(plane, folder / "node") as found:
        found.load_archive(archive)
        yield found


@pytest.fixture(scope="module")
def installed(machine: Node) -> Iterator[Namespace]:
    """Our namespace, with both Deployments ready: Helm waits for the kubelet's probes."""
    kubectl = machine.plane.kubectl
    release = (RELEASE, f"--namespace={NAMESPACE}", f"--kubeconfig={kubectl.kubeconfig}")
    waiting = ("--wait", f"--timeout={SECONDS:.0f}s")
    with new_namespace(kubectl, NAMESPACE, RESTRICTED) as namespace:
        command = (helm(), "install", *release, str(CHART), "--values=-", *waiting)
        try:
            done = run(*command, stdin=json.dumps(VALUES), timeout=SECONDS + 30)
            assert done.code == 0, done.stderr + told(namespace)
            yield namespace
        finally:
            # Else the node's last Pods would be made anew while it goes.
            run(helm(), "uninstall", *release, "--cascade=foreground", timeout=SECONDS)


def told(namespace: Namespace) -> str:
    """What there is to know of Pods that are not ready."""
    logs = namespace.kubectl("logs", "--selector=app.kubernetes.io/name=batten")
    return namespace.kubectl("get", "pods,events").stdout + logs.stdout + logs.stderr


@pytest.fixture(scope="module")
def shop(installed: Namespace) -> Iterator[Namespace]:
    with new_namespace(installed.run, "shop") as fresh:
        yield fresh


def test_it_runs_restricted_and_stays_up(installed: Namespace) -> None:
    pods = installed.get("pods")["items"]
    components = [each["metadata"]["labels"]["app.kubernetes.io/component"] for each in pods]
    assert sorted(components) == ["controller", "webhook", "webhook"]
    for each in pods:
        (status,) = each["status"]["containerStatuses"]
        assert status["image"].endswith(NAME)
        assert status["ready"]
        assert status["restartCount"] == 0


def test_pods_are_hardened_by_it(shop: Namespace) -> None:
    value = pod(containers=[{"name": "app", "image": PAUSE, "imagePullPolicy": "Never"}])
    value["spec"]["securityContext"] = {"runAsUser": 1000}
    shop.apply(value).require()
    eventually(lambda: running(shop, "web"), "the hardened Pod runs", SECONDS)
    (container,) = shop.get("pod", "web")["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_pods_are_refused_by_it(shop: Namespace) -> None:
    value = pod("host", hostNetwork=True)
    refused = shop.apply(value)
    assert refused.code == 1
    assert "pods.validate.batten.dev" in refused.stderr
    assert "hostNetwork" in refused.stderr


def test_its_controller_judges_what_runs(installed: Namespace) -> None:
    (controller,) = installed.get("pods", "-l", "app.kubernetes.io/component=controller")["items"]
    url = f"http://{controller['status']['podIP']}:8080/metrics"

    def judged() -> Any:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return re.search(rb"^batten_audit_timestamp_seconds [1-9]", answer.read(), re.MULTILINE)

    eventually(judged, "the controller has looked at what runs", SECONDS)


def test_its_command_line_works(installed: Namespace) -> None:
    said = printed(installed, "explain", ["batten", "explain", "run-as-non-root"])
    assert said == batten("explain", "run-as-non-root", COLUMNS="80").out


def test_the_libraries_of_clouds_work(installed: Namespace) -> None:
    said = printed(installed, "clouds", ["python3", "-c", CREDENTIALS])
    assert said.splitlines() == [
        "https://api.ecr.eu-west-1.amazonaws.com True",
        "https://sts.eu-west-1.amazonaws.com True",
    ]


def test_it_ends_when_it_is_told_to(installed: Namespace) -> None:
    """As process 1, which no signal reaches that it does not ask for."""
    (controller,) = installed.get("pods", "-l", "app.kubernetes.io/component=controller")["items"]
    name = controller["metadata"]["name"]
    # A finalizer keeps what the kubelet says of it.
    patch = '{"metadata": {"finalizers": ["tests.batten.dev/kept"]}}'
    installed.kubectl("patch", "pod", name, "--patch", patch).require()
    installed.kubectl("delete", "pod", name, "--wait=false").require()

    def ended() -> Any:
        (status,) = installed.get("pod", name)["status"]["containerStatuses"]
        return status["state"].get("terminated")

    try:
        assert eventually(ended, "the controller ends", SECONDS)["exitCode"] == 0
    finally:
        patch = '{"metadata": {"finalizers": null}}'
        installed.kubectl("patch", "pod", name, "--patch", patch).require()
    # A Pod that is taken away while it starts keeps the node from ending for a minute.
    waited = ("rollout", "status", "deployment/batten-controller", f"--timeout={SECONDS:.0f}s")
    installed.run(f"--namespace={NAMESPACE}", *waited, timeout=SECONDS + 30).require()


def running(namespace: Namespace, name: str) -> bool | None:
    return namespace.get("pod", name)["status"]["phase"] == "Running" or None


def printed(namespace: Namespace, name: str, command: list[str]) -> str:
    """What a command of the image prints, in a Pod that may write nowhere."""
    value = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "command",
                    "image": NAME,
                    "imagePullPolicy": "Never",
                    "command": command,
                    "env": [{"name": "NO_COLOR", "value": "1"}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
    namespace.apply(value).require()

    def phase() -> str | None:
        said: str = namespace.get("pod", name)["status"]["phase"]
        return said if said in ("Succeeded", "Failed") else None

    ended = eventually(phase, f"{name} ends", SECONDS)
    said = namespace.kubectl("logs", name).require().stdout
    assert ended == "Succeeded", said
    return said
