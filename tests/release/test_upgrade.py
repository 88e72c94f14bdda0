"""From each earlier release to this one by the real helm, on a real API server.

A release leaves `earlier/VERSION/` behind: its chart as it was packaged, and objects of its kinds.
The operator is this version's from the beginning: while the Pods are replaced it works with the
earlier release's definitions and rights, too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from batten_cluster import ControlPlane
from batten_e2e import Kubectl, Namespace, Output, eventually, new_namespace, pod
from batten_install import RELEASE, Installation
from batten_release import Release

pytestmark = pytest.mark.cluster

RELEASES = sorted((Path(__file__).parent / "earlier").iterdir())
KINDS = "hardeningpolicies,hardeningexceptions,imageprofiles"
SHOP = {"team": "shop"}


@dataclass
class Upgraded:
    """A cluster where an earlier release was installed and this one is now."""

    earlier: Path
    release: Release
    before: dict[str, Any] = field(default_factory=dict)
    pods: tuple[Any, ...] = ()
    during: list[Output] = field(default_factory=list)

    @property
    def kubectl(self) -> Kubectl:
        return self.release.kubectl

    @property
    def file(self) -> str:
        return str(self.earlier / "objects.yaml")

    def objects(self) -> dict[str, Any]:
        """What stands in each, and how often that was changed, by kind and name."""
        found = self.kubectl("get", KINDS, "-o", "json").require().stdout
        return {
            f"{item['kind']}/{item['metadata']['name']}": (
                item["metadata"]["uid"],
                item["metadata"]["generation"],
                item["spec"],
            )
            for item in json.loads(found)["items"]
        }


@pytest.fixture(scope="module", params=RELEASES, ids=lambda earlier: earlier.name)
def upgraded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upgraded]:
    with ControlPlane(tmp_path_factory.mktemp("upgrade")) as plane:
        release = Release(Installation(plane, plane.kubectl))
        found = Upgraded(request.param, release)
        (chart,) = found.earlier.glob("*.tgz")
        release.install(chart)
        release.start()
        plane.kubectl("apply", "-f", found.file).require()
        accepted(plane.kubectl)
        found.before = found.objects()
        with new_namespace(plane.kubectl, "shop", SHOP) as shop:
            found.pods = hardened(shop)
            with applying(shop, found.during):
                release.upgrade()
            yield found


def accepted(kubectl: Kubectl) -> None:
    """Wait until every policy and exception is in force."""
    kinds = "hardeningpolicies,hardeningexceptions"
    kubectl("wait", kinds, "--all", "--for=condition=Accepted", "--timeout=30s").require()


def hardened(shop: Namespace) -> tuple[Any, ...]:
    """What becomes of Pods that the objects speak of: specs, or the words of a refusal."""
    legacy = {"name": "app", "image": "registry.example/legacy/billing:latest"}
    billing = pod("billing", containers=[legacy])
    billing["metadata"]["labels"] = {"app": "billing"}
    asked = (pod("web"), billing, pod("host", hostNetwork=True))
    return tuple(outcome(shop, each) for each in asked)


def outcome(namespace: Namespace, asked: dict[str, Any]) -> Any:
    asked["spec"]["automountServiceAccountToken"] = False  # its volume gets a name by chance
    text = json.dumps(asked)
    made = namespace.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=text)
    return json.loads(made.stdout)["spec"] if made.code == 0 else made.stderr


@contextmanager
def applying(namespace: Namespace, outputs: list[Output]) -> Iterator[None]:
    """Pods are made one after the other meanwhile."""
    done = threading.Event()

    def apply() -> None:
        text = json.dumps(pod("steady"))
        options = ("--dry-run=server", "-o", "json", "-f", "-")
        while not done.is_set():
            outputs.append(namespace.kubectl("create", *options, stdin=text))

    thread = threading.Thread(target=apply)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=60)


def test_no_object_is_lost_or_changed(upgraded: Upgraded) -> None:
    assert len(upgraded.before) >= 3
    assert upgraded.objects() == upgraded.before
    accepted(upgraded.kubectl)


def test_every_object_can_be_applied_again(upgraded: Upgraded) -> None:
    options = ("--dry-run=server", "--validate=strict", "-f", upgraded.file)
    strict = upgraded.kubectl("apply", *options)
    assert strict.require().stdout.count("unchanged") == len(upgraded.before), strict.stdout


def test_no_pod_failed_or_got_in_unhardened_meanwhile(upgraded: Upgraded) -> None:
    assert upgraded.during
    for output in upgraded.during:
        made = json.loads(output.require().stdout)["spec"]
        assert made["securityContext"]["runAsNonRoot"] is True


def test_policies_demand_what_they_demanded(upgraded: Upgraded) -> None:
    shop = Namespace("shop", upgraded.kubectl)
    assert hardened(shop) == upgraded.pods
    assert "no-host-namespaces" in upgraded.pods[2]


def test_kinds_that_are_new_are_followed_without_a_restart(upgraded: Upgraded) -> None:
    """What is wrong in one is told where it is applied: by this operator, not by its definition."""
    made = {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "ImageScan",
        "metadata": {"name": "new"},
        "spec": {
            "image": "registry.example/team/app:1",
            "digests": [f"sha256:{'a' * 64}"],
            "scannedAt": "2026-11-01T00:00:00Z",
        },
    }

    def told() -> Output | None:
        text = json.dumps(made)
        answer = upgraded.kubectl("create", "--dry-run=server", "-f", "-", stdin=text)
        return answer if 'admission webhook "' in answer.stderr else None

    answer = eventually(told, "the review of an ImageScan")
    assert "scanner" in answer.stderr


def test_nothing_of_ours_adds_finalizers(upgraded: Upgraded) -> None:
    kinds = upgraded.kubectl("api-resources", "--verbs=list", "-o", "name").require().stdout.split()
    found = upgraded.kubectl(
        "get", ",".join(kinds), "--all-namespaces", "-o", "json", "--ignore-not-found"
    ).require()
    held = [
        (item["kind"], item["metadata"]["name"], finalizer)
        for item in json.loads(found.stdout)["items"]
        for finalizer in item["metadata"].get("finalizers", [])
    ]
    assert {kind for kind, _, _ in held} <= {"CustomResourceDefinition", "ServiceCIDR"}
    assert all(finalizer.partition("/")[0].endswith("k8s.io") for _, _, finalizer in held), held


def test_back_and_forth(upgraded: Upgraded) -> None:
    shop = Namespace("shop", upgraded.kubectl)
    upgraded.release.helm("rollback", RELEASE, "1").require()
    assert upgraded.objects() == upgraded.before
    assert hardened(shop) == upgraded.pods
    upgraded.release.upgrade()
    assert upgraded.objects() == upgraded.before
    assert hardened(shop) == upgraded.pods
