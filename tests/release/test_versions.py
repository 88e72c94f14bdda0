"""The road from v1alpha1 to a later version (docs/adr/0008), gone on a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from batten_cluster import ControlPlane
from batten_e2e import Kubectl, Output, eventually
from batten_install import Installation
from batten_release import Release

pytestmark = pytest.mark.cluster

CRD = "hardeningpolicies.batten.dev"
LATER = "v1beta1"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Where a policy of v1alpha1 is stored, and a later version is served beside it."""
    with ControlPlane(tmp_path_factory.mktemp("versions")) as plane:
        release = Release(Installation(plane, plane.kubectl))
        release.install()
        release.start()
        apply(plane.kubectl, policy("old", "v1alpha1")).require()
        serve_both(plane.kubectl, stored="v1alpha1")
        yield plane.kubectl


def policy(name: str, version: str, **spec: Any) -> dict[str, Any]:
    selected = {"namespaceSelector": {"matchLabels": {"team": name}}}
    return {
        "apiVersion": f"batten.dev/{version}",
        "kind": "HardeningPolicy",
        "metadata": {"name": name},
        "spec": {"match": selected, **spec},
    }


def apply(kubectl: Kubectl, value: dict[str, Any]) -> Output:
    return kubectl("apply", "-f", "-", stdin=json.dumps(value))


def versions(kubectl: Kubectl) -> Any:
    return json.loads(kubectl("get", "crd", CRD, "-o", "json").require().stdout)


def serve_both(kubectl: Kubectl, stored: str) -> None:
    first = versions(kubectl)["spec"]["versions"][0]
    both = [{**first, "name": name, "storage": name == stored} for name in ("v1alpha1", LATER)]
    patch = json.dumps({"spec": {"versions": both}})
    kubectl("patch", "crd", CRD, "--type=merge", "-p", patch).require()
    eventually(
        lambda: kubectl("get", f"hardeningpolicies.{LATER}.batten.dev").code == 0 or None,
        f"{LATER} is served",
    )


def condition(kubectl: Kubectl, name: str) -> None:
    wait = ("wait", "--for=condition=Accepted", f"hardeningpolicy/{name}", "--timeout=30s")
    kubectl(*wait).require()


def test_what_is_stored_is_read_in_both(kubectl: Kubectl) -> None:
    specs = [
        json.loads(
            kubectl("get", f"hardeningpolicies.{name}.batten.dev", "old", "-o", "json").stdout
        )["spec"]
        for name in ("v1alpha1", LATER)
    ]
    assert specs[0] == specs[1]


def test_what_is_written_in_the_later_one_is_reviewed(kubectl: Kubectl) -> None:
    wrong = policy("new", LATER, defaults={"mutatoin": "Disabled"})
    refused = apply(kubectl, wrong)
    assert "spec.defaults.mutatoin" in refused.stderr
    assert 'admission webhook "own.validate.batten.dev" denied the request' in refused.stderr
    apply(kubectl, policy("new", LATER)).require()
    condition(kubectl, "new")


def test_the_stored_version_moves_and_nothing_is_lost(kubectl: Kubectl) -> None:
    apply(kubectl, policy("moved", "v1alpha1", priority=7)).require()
    serve_both(kubectl, stored=LATER)
    everything = kubectl("get", f"hardeningpolicies.{LATER}.batten.dev", "-o", "json").require()
    kubectl("replace", "-f", "-", stdin=everything.stdout).require()
    status = json.dumps({"status": {"storedVersions": [LATER]}})
    kubectl("patch", "crd", CRD, "--subresource=status", "--type=merge", "-p", status).require()
    found = kubectl("get", "hardeningpolicies.v1alpha1.batten.dev", "moved", "-o", "json")
    assert json.loads(found.require().stdout)["spec"]["priority"] == 7
    condition(kubectl, "moved")


def test_a_stored_version_cannot_be_taken_away(kubectl: Kubectl) -> None:
    serve_both(kubectl, stored=LATER)
    only = [{**versions(kubectl)["spec"]["versions"][0], "name": "v1alpha1", "storage": True}]
    patch = json.dumps({"spec": {"versions": only}})
    refused = kubectl("patch", "crd", CRD, "--type=merge", "-p", patch)
    assert f"{LATER}" in refused.stderr
    assert "storedVersions" in refused.stderr
