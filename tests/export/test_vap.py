"""What is exported, enforced by a real API server without Batten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import yaml
from batten_cluster import ControlPlane
from batten_command import batten
from batten_corpus import CORPUS, needs_corpus
from batten_e2e import Namespace, Output, eventually
from batten_oracle import OTHER_PLUGINS

from batten_webhooks.engine import evaluate
from batten_webhooks.export import vap
from batten_webhooks.governance import EXEMPT
from batten_webhooks.policy import PRESETS, Policy, Setting
from batten_webhooks.rules import RULES
from batten_webhooks.workload import read_object

INDEX = CORPUS / "pss" / "expectations.jsonl"
IMAGE = "registry.example/team/app:1.4.2"


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


def every_rule(action: str) -> Policy:
    """Each rule that CEL can say by itself, none of them within another."""
    settings = tuple(
        Setting(rule, "Disabled", frozenset((action,)), rule.parameters())  # type: ignore[arg-type]
        for rule in RULES
        if rule.cel is not None
    )
    return replace(PRESETS["hardened"], settings=settings)


@contextmanager
def applied(plane: ControlPlane, manifests: str) -> Iterator[None]:
    """Until they hold, and then no longer: the API server follows them after a moment."""
    namespace = Namespace("shop", plane.kubectl)
    plane.kubectl("apply", "-f", "-", stdin=manifests).require()
    told = "ValidatingAdmissionPolicy"
    probe = pod(securityContext={"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}})
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
def test_they_agree_with_the_engine_on_every_fixture_of_the_standards(
    plane: ControlPlane, namespace: Namespace
) -> None:
    """Rule by rule: each violation is a warning of its own."""
    needs_corpus()
    policy = every_rule("Warn")
    names = {setting.rule.name for setting in policy.settings}
    assert {rule.name for rule in RULES if rule.level in {"baseline", "restricted"}} <= names
    rows = [json.loads(line) for line in INDEX.read_text().splitlines()]
    compared = 0
    with applied(plane, yaml.safe_dump_all(vap(policy, EXEMPT).manifests)):
        for row in rows:
            value = yaml.safe_load((CORPUS / "pss" / row["file"]).read_text())
            value["metadata"] = {**value.get("metadata", {}), "name": "web"}
            value["metadata"].pop("namespace", None)
            done = tried(namespace, value)
            if done.code and "is invalid" in done.stderr:
                continue
            assert done.code == 0, f"{row['file']}: {done.stderr}"
            warned = {name for name in names if f": {name}: " in done.stderr}
            workload = read_object(value)
            assert workload is not None
            expected = {each.rule for each in evaluate(workload, policy).violations}
            assert warned == expected, f"{row['file']}: {done.stderr}"
            compared += 1
    assert compared > 0.9 * len(rows)


@pytest.mark.cluster
def test_a_cluster_is_held_without_batten(plane: ControlPlane, namespace: Namespace) -> None:
    exported = batten("export", "--policy", "restricted", "--format", "vap")
    assert exported.code == 0, exported.err
    with applied(plane, exported.out):
        plain = tried(namespace, pod())
        assert plain.code
        assert "run-as-non-root: container app: set securityContext.runAsNonRoot" in plain.stderr
        safe = pod(
            securityContext={
                "runAsNonRoot": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
        )
        namespace.kubectl("create", "-f", "-", stdin=json.dumps(safe)).require()
        # An ephemeral container is held to the same; other updates go through.
        namespace.kubectl("label", "pod", "web", "team=shop").require()
        value = namespace.get("pod", "web")
        value["spec"]["ephemeralContainers"] = [{"name": "debug", "image": IMAGE}]
        path = f"/api/v1/namespaces/{namespace.name}/pods/web/ephemeralcontainers"
        debug = namespace.run("replace", "--raw", path, "-f", "-", stdin=json.dumps(value))
        assert "container debug" in debug.stderr
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
