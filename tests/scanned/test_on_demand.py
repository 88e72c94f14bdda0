"""Scans on demand, on a real node: from a Pod that is refused to one that runs, and every way in
which a scan goes wrong.

The scanner is one of the tests' own, which asks the registry itself and prints what Trivy would.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from batten_e2e import Kubectl, Namespace, eventually, new_namespace, pod
from batten_install import NAMESPACE, Installation
from batten_node import LOOPBACK, Node, node, own_address, pause_layer, program_layer
from batten_pinning import workload
from batten_registry import Registry, docker_config
from batten_scanned import Image, Json, pod_template, policy, pushed
from batten_session import Session
from batten_tools import scanner, why_no_node

from batten_operator.scan_requests import name_of

WHY_NOT = why_no_node()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"no node to scan on: {WHY_NOT}"),
]

SCANNER = "localhost/scanner:1"
CRITICAL = "CVE-2026-1:CRITICAL:openssl:3.0.1:3.0.2"
OPERATOR = "system:serviceaccount:batten-system:batten"
# Of a failed scan, an event and a status are written; of many one after another.
PATIENCE = 120.0


@pytest.fixture(scope="module")
def machine(batten: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    if not batten.own_cluster:
        pytest.skip("no node of the tests' own in a cluster that somebody else runs")
    if own_address() == LOOPBACK:
        pytest.skip("no node whose logs can be read: this machine has no address but the loopback")
    with node(batten.plane, tmp_path_factory.mktemp("node")) as found:
        layers = [program_layer(scanner())]
        found.load_layers({SCANNER: ({"Entrypoint": ["/scanner"]}, list(layers))})
        yield found


@pytest.fixture(scope="module")
def scanning(machine: Node, kubectl: Kubectl) -> Iterator[Node]:
    items = [
        pod_template("scanner", SCANNER),
        pod_template("impatient", SCANNER, activeDeadlineSeconds=3),
        policy("scanned", scanWith="scanner"),
        policy("impatient", scanWith="impatient"),
        policy("nowhere", scanWith="nowhere"),
    ]
    everything = {"apiVersion": "v1", "kind": "List", "items": items}
    kubectl("apply", "-f", "-", stdin=json.dumps(everything)).require()
    yield machine
    kubectl("delete", "hardeningpolicies,imagescans", "--all").require()


@pytest.fixture
def namespace(scanning: Node, kubectl: Kubectl) -> Iterator[Namespace]:
    with new_namespace(kubectl, f"scan-{uuid.uuid4().hex[:8]}", {"scans": "scanned"}) as fresh:
        _await_policy(fresh, "scanned")
        yield fresh


def _await_policy(namespace: Namespace, name: str) -> None:
    value = json.dumps(pod(containers=[{"name": "x", "image": "127.0.0.1:9/x:1"}]))

    def governs() -> bool | None:
        done = namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=value)
        return f'HardeningPolicy "{name}"' in done.stderr or None

    eventually(governs, f"{name} governs {namespace.name}")


def image_of(
    registry: Registry, namespace: Namespace, tag: str = "1", scan: str = "", vulnerable: str = ""
) -> Image:
    """One that runs, and that the scanner says this of."""
    labels = {"scan": scan, "vulnerable": vulnerable, "tag": tag}
    return pushed(
        registry,
        namespace.name,
        tag,
        layer=pause_layer(),
        Entrypoint=["/pause"],
        Labels={key: text for key, text in labels.items() if text},
    )


def scan_of(kubectl: Kubectl, image: Image) -> Json:
    """The ImageScan of its platform; {} for none."""
    asked = kubectl("get", "imagescan", name_of(image.tagged, image.amd64), "-o", "json")
    return json.loads(asked.stdout) if asked.code == 0 else {}


def status_of(kubectl: Kubectl, image: Image) -> Json:
    status: Json = scan_of(kubectl, image).get("status") or {}
    return status


def until(kubectl: Kubectl, image: Image, phase: str) -> Json:
    def reached() -> Json | None:
        found = scan_of(kubectl, image)
        return found if (found.get("status") or {}).get("phase") == phase else None

    return eventually(reached, f"{image.tagged} is {phase}: {status_of(kubectl, image)}", PATIENCE)


def refused(namespace: Namespace, image: Image, name: str = "web", **spec: Any) -> str:
    value = pod(name, containers=[{"name": "app", "image": image.tagged}], **spec)
    done = namespace.kubectl("create", "-f", "-", stdin=json.dumps(value))
    assert done.code == 1, done.stdout
    return done.stderr


def jobs(kubectl: Kubectl) -> list[Json]:
    found: list[Json] = json.loads(
        kubectl("get", "jobs", "-n", NAMESPACE, "-o", "json").require().stdout
    )["items"]
    return found


def job_name(image: Image) -> str:
    """How it begins."""
    return f"batten-scan-{image.amd64.partition(':')[2][:32]}"


def its_job(kubectl: Kubectl, image: Image) -> Json:
    def there() -> Json | None:
        found = (each for each in jobs(kubectl) if each["metadata"]["name"].startswith(name))
        return next(found, None)

    name = job_name(image)
    return eventually(there, f"the Job of {image.tagged}", 60)


def made_jobs(batten: Session, image: Image) -> int:
    """How many Jobs were ever made for it, by the API server's own log."""
    count = 0
    for line in batten.plane.audit_log.read_text().splitlines():
        event = json.loads(line)
        if event["verb"] == "create" and event["objectRef"].get("resource") == "jobs":
            code = (event.get("responseStatus") or {}).get("code")
            name = event["objectRef"].get("name", "")
            count += name.startswith(job_name(image)) and code == 201
    return count


# --- the road -----------------------------------------------------------------------------------


def test_a_deployment_gets_in_by_itself(
    namespace: Namespace, kubectl: Kubectl, plain: Registry
) -> None:
    image = image_of(plain, namespace)
    applied = namespace.apply(workload("Deployment", image.tagged, replicas=2)).require()
    assert "has no scan that counts: nothing was found" in applied.stderr
    found = until(kubectl, image, "Complete")
    assert found["spec"]["scanner"]["name"] == "Trivy"
    assert image.amd64 in found["spec"]["digests"]
    namespace.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE:.0f}s").require()
    pods = namespace.pods(2)
    assert {each["spec"]["containers"][0]["image"] for each in pods} == {image.pinned}

    def gone() -> bool | None:
        return (
            all(job_name(image) not in each["metadata"]["name"] for each in jobs(kubectl)) or None
        )

    eventually(gone, "its Job is gone")


def test_what_was_found_refuses(namespace: Namespace, kubectl: Kubectl, plain: Registry) -> None:
    image = image_of(plain, namespace, vulnerable=CRITICAL)
    assert "wait: it is being scanned" in refused(namespace, image)
    until(kubectl, image, "Complete")
    eventually(
        lambda: "CRITICAL CVE-2026-1 in openssl 3.0.1" in refused(namespace, image) or None,
        "the scan counts",
    )


def test_kubectl_shows_them(namespace: Namespace, kubectl: Kubectl, plain: Registry) -> None:
    image = image_of(plain, namespace, scan="is slow")
    refused(namespace, image)
    until(kubectl, image, "Running")
    header, *lines = kubectl("get", "imagescans").require().stdout.splitlines()
    (line,) = (each for each in lines if image.tagged in each)
    assert header.split() == [*("NAME", "IMAGE", "PLATFORM", "SCANNER", "SCANNED", "PHASE", "AGE")]
    assert "linux/amd64" in line
    assert "Running" in line


def test_a_dry_run_asks_for_no_scan(
    namespace: Namespace, kubectl: Kubectl, plain: Registry
) -> None:
    tried, asked = (image_of(plain, namespace, tag) for tag in ("tried", "asked"))
    value = pod(containers=[{"name": "app", "image": tried.tagged}])
    done = namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(value))
    assert "wait: it is being scanned" in done.stderr
    refused(namespace, asked)
    until(kubectl, asked, "Complete")
    assert scan_of(kubectl, tried) == {}


def test_a_private_image_is_scanned_with_its_registrys_credential_alone(
    namespace: Namespace, kubectl: Kubectl, guarded: Registry
) -> None:
    image = image_of(guarded, namespace, scan="is slow")
    config = json.loads(docker_config(guarded.host))
    config["auths"] |= json.loads(docker_config("elsewhere.example"))["auths"]
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pull"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "data": {"a": "eA=="}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"a": "x"}},
    ).require()
    container = {
        "name": "app",
        "image": image.tagged,
        "env": [{"name": "PASSWORD", "value": "literal"}],
        "envFrom": [{"secretRef": {"name": "own"}}, {"configMapRef": {"name": "own"}}],
    }
    value = pod(containers=[container], imagePullSecrets=[{"name": "pull"}])
    done = namespace.kubectl("create", "-f", "-", stdin=json.dumps(value))
    assert "wait: it is being scanned" in done.stderr
    job = its_job(kubectl, image)
    name = job["metadata"]["name"]

    def secret() -> Json | None:
        asked = kubectl("get", "secret", name, "-n", NAMESPACE, "-o", "json")
        return json.loads(asked.stdout) if asked.code == 0 else None

    held = eventually(secret, "its Secret")
    given = json.loads(base64.b64decode(held["data"][".dockerconfigjson"]))
    assert list(given["auths"]) == [guarded.host]
    assert held["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    text = json.dumps(job["spec"])
    assert all(word not in text for word in ("PASSWORD", "literal", "own", "robot"))
    until(kubectl, image, "Complete")

    def gone() -> bool | None:
        return secret() is None or None

    eventually(gone, "its Secret is gone", 60)


# --- what goes wrong ----------------------------------------------------------------------------

FAILURES = {
    "fails": "its Job failed: FATAL no space left on device",
    "prints nonsense": "what it printed is no JSON",
    "prints another's": "what it printed is of another image",
    "prints much": "it printed more than 10485760 bytes",
}


def test_scans_that_fail_say_why(namespace: Namespace, kubectl: Kubectl, plain: Registry) -> None:
    images = {scan: image_of(plain, namespace, str(at), scan) for at, scan in enumerate(FAILURES)}
    for at, image in enumerate(images.values()):
        assert "wait: it is being scanned" in refused(namespace, image, f"web-{at}")
    said = {scan: until(kubectl, image, "Failed")["status"] for scan, image in images.items()}
    told = {scan: each["message"] for scan, each in said.items()}
    assert {scan: why for scan, why in told.items() if FAILURES[scan] not in why} == {}
    assert all(each["failures"] >= 1 for each in said.values())
    for scan, image in images.items():
        _await_event(kubectl, image, FAILURES[scan])


def _await_event(kubectl: Kubectl, image: Image, why: str) -> None:
    name = name_of(image.tagged, image.amd64)
    selector = f"--field-selector=reason=ScanFailed,involvedObject.name={name}"

    def told() -> bool | None:
        asked = kubectl("get", "events", "-n", "default", selector, "-o", "json")
        items = json.loads(asked.require().stdout)["items"]
        return any(why in each["message"] for each in items) or None

    eventually(told, f"an event of {why}", 60)


USELESS = {
    "nowhere": "there is no PodTemplate nowhere in batten-system",
    "impatient": "its Job failed: ",
}


@pytest.mark.parametrize("governing", USELESS)
def test_templates_that_are_of_no_use(
    scanning: Node, kubectl: Kubectl, plain: Registry, governing: str
) -> None:
    name = f"scan-{uuid.uuid4().hex[:8]}"
    with new_namespace(kubectl, name, {"scans": governing}) as namespace:
        _await_policy(namespace, governing)
        image = image_of(plain, namespace, scan="hangs")
        refused(namespace, image)
        assert USELESS[governing] in until(kubectl, image, "Failed")["status"]["message"]


def test_a_scan_that_failed_is_tried_again(
    namespace: Namespace, kubectl: Kubectl, plain: Registry
) -> None:
    """When the PodTemplate is there at last."""
    name = f"scan-{uuid.uuid4().hex[:8]}"
    with new_namespace(kubectl, name, {"scans": "nowhere"}) as late:
        _await_policy(late, "nowhere")
        image = image_of(plain, late)
        refused(late, image)
        until(kubectl, image, "Failed")
        kubectl("apply", "-f", "-", stdin=json.dumps(pod_template("nowhere", SCANNER))).require()
        until(kubectl, image, "Complete")
    kubectl("delete", "podtemplate", "nowhere", "-n", NAMESPACE).require()


# --- bounds -------------------------------------------------------------------------------------


def test_two_pods_of_one_digest_make_one_job(
    namespace: Namespace, batten: Session, kubectl: Kubectl, plain: Registry
) -> None:
    image = image_of(plain, namespace, scan="is slow")
    for number in range(5):
        refused(namespace, image, f"web-{number}")
    until(kubectl, image, "Complete")
    assert made_jobs(batten, image) == 1


def test_no_more_than_three_at_once(
    namespace: Namespace, kubectl: Kubectl, plain: Registry
) -> None:
    images = [image_of(plain, namespace, str(number), "is slow") for number in range(7)]
    for number, image in enumerate(images):
        refused(namespace, image, f"web-{number}")
    most = 0
    deadline = time.monotonic() + PATIENCE
    while any(status_of(kubectl, image).get("phase") != "Complete" for image in images):
        assert time.monotonic() < deadline, [status_of(kubectl, image) for image in images]
        running = [each for each in jobs(kubectl) if (each.get("status") or {}).get("active")]
        most = max(most, len(running))
    assert most == 3


def test_a_controller_that_is_killed_goes_on_where_it_was(
    namespace: Namespace,
    operator: Installation,
    batten: Session,
    kubectl: Kubectl,
    plain: Registry,
) -> None:
    image = image_of(plain, namespace, scan="is slow")
    refused(namespace, image)
    its_job(kubectl, image)
    operator.kill()
    operator.start()
    until(kubectl, image, "Complete")
    assert made_jobs(batten, image) == 1
