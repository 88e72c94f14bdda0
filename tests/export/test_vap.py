"""What is exported, enforced by a real API server without Batten."""

from __future__ import annotations

import copy
import http.client
import json
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from batten_cluster import ControlPlane
from batten_command import batten
from batten_corpus import CORPUS, needs_corpus
from batten_e2e import Namespace, Output, eventually
from batten_oracle import OTHER_PLUGINS
from batten_pods import combinations, matrix

from batten_webhooks.engine import evaluate
from batten_webhooks.export import vap
from batten_webhooks.governance import EXEMPT, GoverningPolicy
from batten_webhooks.policy import Policy, Setting
from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import VERSIONS, Version
from batten_webhooks.workload import read_object

IMAGE = "registry.example/team/app:1.4.2"
SAFE = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
SAFE_CONTAINER: dict[str, Any] = {"securityContext": SAFE}
PRIVILEGED = {"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(
        tmp_path_factory.mktemp("export"),
        apiserver_arguments=[f"--disable-admission-plugins={OTHER_PLUGINS}"],
    ) as running:
        yield running


@pytest.fixture
def namespace(plane: ControlPlane) -> Namespace:
    plane.kubectl("create", "namespace", "shop")
    return Namespace("shop", plane.kubectl)


def every_rule(version: Version = VERSIONS[-1], **options: dict[str, Any]) -> GoverningPolicy:
    """Each rule that CEL can say warns by itself, none of them within another."""
    settings = tuple(
        Setting(rule, "Disabled", frozenset(("Warn",)), rule.parameters(**options.get(name, {})))
        for rule in RULES
        if rule.cel is not None
        for name in (rule.name.replace("-", "_"),)
    )
    return GoverningPolicy("", Policy("every rule", settings, version))


class Server:
    """Dry runs on one connection; the answers' warnings."""

    def __init__(self, plane: ControlPlane) -> None:
        config = yaml.safe_load(plane.kubeconfig.read_text())
        self._address = urlsplit(config["clusters"][0]["cluster"]["server"])
        self._context = ssl.create_default_context(cafile=str(plane.folder / "ca.crt"))
        self._context.load_cert_chain(plane.folder / "admin.crt", plane.folder / "admin.key")
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        host, port = str(self._address.hostname), self._address.port
        return http.client.HTTPSConnection(host, port, timeout=30, context=self._context)

    def warnings(self, value: dict[str, Any]) -> list[str] | None:
        """None of an invalid Pod."""
        body = json.dumps(value, default=str)
        headers = {"Content-Type": "application/json"}
        path = "/api/v1/namespaces/shop/pods?dryRun=All"
        self._connection.request("POST", path, body, headers)
        response = self._connection.getresponse()
        said = response.read().decode()
        if response.status in (400, 422):
            return None
        assert response.status == 201, said
        return response.headers.get_all("Warning") or []

    def close(self) -> None:
        self._connection.close()


def differences(
    plane: ControlPlane, governing: GoverningPolicy, pods: Iterable[tuple[str, dict[str, Any]]]
) -> tuple[list[str], set[str]]:
    """Where the API server warns of other rules than the engine finds; all rules that it found."""
    names = {setting.rule.name for setting in governing.policy.settings}
    wrong, violated, compared, asked = [], set(), 0, 0
    server = Server(plane)
    try:
        with applied(plane, yaml.safe_dump_all(vap(governing, EXEMPT).manifests)):
            for name, value in pods:
                asked += 1
                value["metadata"] = {**value.get("metadata", {}), "name": "web"}
                value["metadata"].pop("namespace", None)
                warnings = server.warnings(value)
                if warnings is None:
                    continue
                workload = read_object(value)
                assert workload is not None
                told = {rule for rule in names for line in warnings if f": {rule}: " in line}
                expected = {each.rule for each in evaluate(workload, governing.policy).violations}
                if told != expected:
                    wrong.append(f"{name}: told {told - expected}, not told {expected - told}")
                violated |= expected
                compared += 1
    finally:
        server.close()
    assert compared > 0.6 * asked
    print(f"{compared} Pods of {asked} compared")
    return wrong, violated


@contextmanager
def applied(
    plane: ControlPlane, manifests: str, probe: dict[str, Any] | None = None
) -> Iterator[None]:
    """Until they hold, and then no longer: the API server follows them after a moment."""
    namespace = Namespace("shop", plane.kubectl)
    plane.kubectl("apply", "-f", "-", stdin=manifests).require()
    told = "ValidatingAdmissionPolicy"
    probe = copy.deepcopy(probe or pod(securityContext=PRIVILEGED))
    eventually(lambda: told in tried(namespace, probe).stderr or None, "they hold", 60)
    try:
        yield
    finally:
        plane.kubectl("delete", "-f", "-", stdin=manifests).require()
        eventually(lambda: told not in tried(namespace, probe).stderr or None, "they are gone", 60)


def pod(**fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "app", "image": IMAGE, **fields}]},
    }


def tried(namespace: Namespace, value: dict[str, Any]) -> Output:
    arguments = ("create", "--dry-run=server", "--validate=false", "-f", "-")
    return namespace.kubectl(*arguments, stdin=json.dumps(value, default=str))


@pytest.mark.cluster
@pytest.mark.parametrize("version", [(1, 33), (1, 35), VERSIONS[-1]])
def test_they_agree_with_the_engine_on_every_fixture_of_the_standards(
    plane: ControlPlane, namespace: Namespace, version: Version
) -> None:
    """Rule by rule: each violation is a warning of its own."""
    needs_corpus()
    governing = every_rule(version)
    names = {setting.rule.name for setting in governing.policy.settings}
    assert {rule.name for rule in RULES if rule.level in {"baseline", "restricted"}} <= names
    files = sorted((CORPUS / "pss").rglob("*.yaml"))
    assert len(files) > 100
    pods = ((file.name, yaml.safe_load(file.read_text())) for file in files)
    wrong, _ = differences(plane, governing, pods)
    assert not wrong


@pytest.mark.cluster
def test_they_agree_with_the_engine_on_a_matrix_of_pods(
    plane: ControlPlane, namespace: Namespace
) -> None:
    wrong, violated = differences(plane, every_rule(), (*matrix(), *combinations(200, seed=4)))
    assert not wrong
    standard = {rule.name for rule in RULES if rule.level in {"baseline", "restricted"}}
    assert standard - {"default-proc-mount"} <= violated


@pytest.mark.cluster
def test_they_agree_with_the_engine_on_what_a_policy_allows_further(
    plane: ControlPlane, namespace: Namespace
) -> None:
    governing = every_rule(
        no_added_capabilities={"allowed": frozenset(("SYS_ADMIN",))},
        drop_capabilities={"allowed": frozenset(("CHOWN",))},
        no_host_ports={"allowed": frozenset((80,))},
        safe_sysctls={"allowed": frozenset(("kernel.msgmax",))},
        safe_volume_types={"allowed": frozenset(("nfs",))},
    )
    wrong, _ = differences(plane, governing, matrix())
    assert not wrong


IMAGES = (
    *(
        "app",
        "app:1",
        "app:latest",
        "app:latest1",
        "team/app",
        "team/app:1",
        "a.b/app:1",
        "a_b/app:1",
    ),
    *("a_b.c/app:1", "A/app:1", "A:1", "a/B:1", "localhost/app:1", "localhost:5000/app:1"),
    *(
        "localhost:5000/app",
        "host:5000",
        "[::1]:5000/app:1",
        "[abc]/app:1",
        "a..b/app:1",
        "-a/app:1",
    ),
    *("a--b/app:1", "a/b--c:1", "a/b__c:1", "a/b___c:1", "a/-b:1", "a//b:1", "a/b/:1", "/a:1"),
    *("a/b.c/d:1", "a.b:latest/app:1", "app:", "app:-1", "app:_1", "app:" + "1" * 128),
    *("app:" + "1" * 129, "app@sha256:" + "a" * 64, "app@sha256:" + "a" * 63),
    *("app:latest@sha256:" + "a" * 64, "app@sha384:" + "a" * 96, "app@sha512:" + "a" * 128),
    *("app@md5:" + "a" * 32, "a" * 64, "app:1 ", "app:ü", "ä:1", "app:1'", "http://a.b/app:1"),
)


@pytest.mark.cluster
def test_they_agree_with_the_engine_on_references_of_images(
    plane: ControlPlane, namespace: Namespace
) -> None:
    pods: list[tuple[str, dict[str, Any]]] = []
    for image in IMAGES:
        pods.append((image, pod(image=image)))
        mounted = pod()
        mounted["spec"]["volumes"] = [{"name": "files", "image": {"reference": image}}]
        pods.append((f"volume {image}", mounted))
    wrong, violated = differences(plane, every_rule(), pods)
    assert not wrong
    assert "no-latest-tag" in violated


@pytest.mark.cluster
def test_a_cluster_is_held_without_batten(plane: ControlPlane, namespace: Namespace) -> None:
    exported = batten("export", "--policy", "restricted", "--format", "vap")
    assert exported.code == 0, exported.err
    with applied(plane, exported.out):
        plain = tried(namespace, pod())
        assert plain.code
        assert "run-as-non-root: container app: set securityContext.runAsNonRoot" in plain.stderr
        safe = pod(**SAFE_CONTAINER)
        assert tried(namespace, safe).code == 0
        # What the chart exempts is exempt here, too.
        with new_namespace_without_account(plane, "longhorn-system") as exempt:
            assert tried(exempt, pod()).code == 0


@pytest.mark.cluster
def test_the_api_servers_own_type_check_finds_nothing(
    plane: ControlPlane, namespace: Namespace
) -> None:
    """Kubernetes' controller checks the expressions against the schema of Pods."""
    if not plane.running("kube-controller-manager"):
        pytest.skip("no kube-controller-manager on this machine, which checks the expressions")
    with applied(plane, batten("export").out):

        def checked() -> dict[str, Any] | None:
            found = namespace.get("validatingadmissionpolicy", "batten-deny")
            status: dict[str, Any] = found.get("status") or {}
            return status if status.get("observedGeneration") else None

        status = eventually(checked, "the type check", 60)
        assert not status.get("typeChecking"), status


@pytest.mark.cluster
def test_an_update_is_judged_by_what_it_adds(plane: ControlPlane, namespace: Namespace) -> None:
    """As by the webhooks: what broke a rule before stays as it is."""
    old = pod() | {"metadata": {"name": "old"}}
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(old)).require()
    with applied(plane, batten("export").out):
        namespace.kubectl("label", "pod", "old", "team=shop").require()
        namespace.kubectl("set", "image", "pod/old", f"app={IMAGE}.1").require()
        moved = namespace.kubectl("set", "image", "pod/old", "app=registry.example/team/app")
        assert "no-latest-tag: container app: name the tag" in moved.stderr
        assert "read-only-root-filesystem" not in moved.stderr
        debug = {"name": "debug", "image": IMAGE}
        assert "run-as-non-root: container debug: set" in attached(namespace, debug).stderr
        debug["securityContext"] = SAFE  # type: ignore[assignment]
        attached(namespace, debug).require()
    namespace.kubectl("delete", "pod", "old", "--force").require()


def attached(namespace: Namespace, container: dict[str, Any]) -> Output:
    value = namespace.get("pod", "old")
    value["spec"]["ephemeralContainers"] = [container]
    path = f"/api/v1/namespaces/{namespace.name}/pods/old/ephemeralcontainers"
    return namespace.run("replace", "--raw", path, "-f", "-", stdin=json.dumps(value))


POLICY = """
apiVersion: batten.dev/v1alpha1
kind: HardeningPolicy
metadata: {name: shops}
spec:
  match:
    namespaceSelector: {matchLabels: {team: shop}}
    podSelector: {matchExpressions: [{key: tier, operator: Exists}]}
  defaults: {validationActions: []}
  rules:
    no-privileged: {validationActions: [Deny, Audit]}
    no-host-path: {validationActions: [Warn]}
    drop-capabilities: {validationActions: [Deny, Audit], exemptUsers: ["kubernetes-admin"]}
    no-added-capabilities: {validationActions: [Deny, Audit]}
"""


@pytest.mark.cluster
def test_a_policys_own_match_actions_and_exempt_users(
    plane: ControlPlane, namespace: Namespace, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    user = plane.kubectl("auth", "whoami", "-o=jsonpath={.status.userInfo.username}").stdout
    file.write_text(POLICY.replace("kubernetes-admin", user))
    exported = batten("export", "--policy", file)
    assert exported.code == 0, exported.err
    names = {value["metadata"]["name"] for value in yaml.safe_load_all(exported.out)}
    # The advice keeps its own actions.
    assert names == {f"batten-shops-{actions}" for actions in ("deny-audit", "warn", "audit")}
    governed = pod(securityContext={"privileged": True})
    governed["metadata"]["labels"] = {"tier": "front"}
    governed["spec"]["volumes"] = [{"name": "node", "hostPath": {"path": "/"}}]
    free = pod(securityContext={"privileged": True})
    plane.kubectl("label", "namespace", "shop", "team=shop").require()
    try:
        with applied(plane, exported.out, governed):
            assert "no-privileged: container app: " in tried(namespace, governed).stderr
            warning = "Warning: Validation failed for ValidatingAdmissionPolicy"
            # Each policy takes effect by itself.
            eventually(lambda: warning in tried(namespace, governed).stderr or None, "it warns", 60)
            assert tried(namespace, free).code == 0
            # This user need not drop them, and is held to the weaker rule.
            added = {"capabilities": {"add": ["SYS_ADMIN"]}}
            governed["spec"]["containers"][0]["securityContext"] = added
            said = tried(namespace, governed).stderr
            assert "no-added-capabilities: container app: " in said
            governed["spec"]["containers"][0].pop("securityContext")
            assert tried(namespace, governed).code == 0
            other = namespace.kubectl(
                "create",
                "--dry-run=server",
                "--as=ada",
                "--as-group=system:masters",
                "-f",
                "-",
                stdin=json.dumps(governed),
            )
            assert "drop-capabilities: container app: " in other.stderr
            with new_namespace_without_account(plane, "other") as elsewhere:
                assert tried(elsewhere, governed).code == 0
    finally:
        plane.kubectl("label", "namespace", "shop", "team-").require()


@pytest.mark.cluster
def test_a_large_pod_stays_below_the_cost_limits(plane: ControlPlane, namespace: Namespace) -> None:
    """What exceeds CEL's budget is refused, since the policies fail closed."""
    large = pod(**SAFE_CONTAINER)
    [container] = large["spec"]["containers"]
    container["env"] = [{"name": f"NAME_{n}", "value": "value"} for n in range(50)]
    ports = [[{"containerPort": 1000 + 10 * n + port} for port in range(10)] for n in range(200)]
    large["spec"]["containers"] = [
        {**container, "name": f"app-{n}", "ports": each} for n, each in enumerate(ports)
    ]
    large["spec"]["volumes"] = [{"name": f"volume-{n}", "emptyDir": {}} for n in range(200)]
    with applied(plane, yaml.safe_dump_all(vap(every_rule(), EXEMPT).manifests)):
        # Those that warn take effect by themselves.
        eventually(lambda: ": probes: " in tried(namespace, large).stderr or None, "they warn", 60)
        done = tried(namespace, large)
        assert done.code == 0, done.stderr
        assert "cost" not in done.stderr


@contextmanager
def new_namespace_without_account(plane: ControlPlane, name: str) -> Iterator[Namespace]:
    plane.kubectl("create", "namespace", name).require()
    yield Namespace(name, plane.kubectl)
    plane.kubectl("delete", "namespace", name, "--wait=false").require()


def test_what_cannot_be_said_is_told(tmp_path: Any) -> None:
    exceptions = tmp_path / "exceptions.yaml"
    exceptions.write_text(
        "apiVersion: batten.dev/v1alpha1\nkind: HardeningException\nmetadata: {name: legacy}\n"
        "spec: {match: {namespaces: [shop]}, rules: [no-privileged], reason: r,"
        " expires: '2099-01-01T00:00:00Z'}\n"
    )
    exported = batten("export", "--exceptions", str(exceptions))
    assert exported.code == 0
    assert "writable-tmp" in exported.err
    assert 'HardeningException "legacy": left out, for CEL has no clock' in exported.err
    kinds = [value["kind"] for value in yaml.safe_load_all(exported.out)]
    assert set(kinds) == {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert exported.out == batten("export").out
