"""In whatever order a release, its definitions and its Namespace are deleted, nothing is left that
blocks: by `helm uninstall`, or without Helm's knowing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from batten_cluster import ControlPlane
from batten_e2e import Namespace, eventually, new_namespace, pod
from batten_install import NAMESPACE, RELEASE, Installation
from batten_release import Release

pytestmark = pytest.mark.cluster

OURS = "app.kubernetes.io/instance=batten"
CONFIGURATIONS = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
DEFINITIONS = tuple(
    f"{plural}.batten.dev"
    for plural in ("hardeningpolicies", "hardeningexceptions", "imageprofiles", "imagescans")
)
POLICY = {
    "apiVersion": "batten.dev/v1alpha1",
    "kind": "HardeningPolicy",
    "metadata": {"name": "team"},
    "spec": {"match": {"namespaceSelector": {"matchLabels": {"team": "a"}}}},
}
STEPS = ("release", "definitions", "namespace")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("removal")) as running:
        yield running


@pytest.fixture
def release(plane: ControlPlane) -> Iterator[Release]:
    """Installed anew: what an earlier removal left would be in the way."""
    found = Release(Installation(plane, plane.kubectl))
    found.install()
    found.start()
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(POLICY)).require()
    yield found
    found.installation.stop()


@pytest.fixture
def team(release: Release) -> Iterator[Namespace]:
    with new_namespace(release.kubectl, "team", {"team": "a"}) as namespace:
        namespace.apply(pod("web")).require()
        yield namespace
    gone(release, "namespace", "team")


def gone(release: Release, kind: str, *names: str) -> None:
    eventually(
        lambda: release.kubectl("get", kind, *names).code or None,
        f"{kind} {', '.join(names)} is gone",
        seconds=90,
    )


def remove(release: Release, step: str) -> None:
    """Not waited for, as somebody in a hurry does it."""
    kubectl = release.kubectl
    if step == "release":
        done = release.helm("uninstall", RELEASE, "--ignore-not-found")
        assert done.code == 0, done.stderr
    elif step == "definitions":
        kubectl("delete", "crd", *DEFINITIONS, "--wait=false").require()
    else:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false").require()


@pytest.mark.parametrize("order", itertools.permutations(STEPS), ids="-".join)
def test_any_order(release: Release, team: Namespace, order: tuple[str, ...]) -> None:
    removed(release, team, order)


def test_nobody_has_to_serve(release: Release, team: Namespace) -> None:
    release.installation.kill()
    removed(release, team, ("definitions", "namespace", "release"))


def removed(release: Release, team: Namespace, order: tuple[str, ...]) -> None:
    for step in order:
        remove(release, step)
    gone(release, "namespace", NAMESPACE)
    for name in DEFINITIONS:
        gone(release, "crd", name)
    eventually(
        lambda: (
            release.kubectl("get", CONFIGURATIONS, "-l", OURS, "-o", "name").stdout == "" or None
        ),
        "the webhook configurations are gone",
        seconds=60,
    )
    plain = team.apply(pod("plain", hostNetwork=True)).require()
    assert "Warning" not in plain.stderr


def test_deleting_our_namespace_is_enough(release: Release, team: Namespace) -> None:
    release.installation.kill()
    held = team.apply(pod("held"))
    assert "failed calling webhook" in held.stderr
    remove(release, "namespace")
    eventually(
        lambda: team.apply(pod("held")).code == 0 or None,
        "the garbage collector removes the configurations",
        seconds=60,
    )
    gone(release, "namespace", NAMESPACE)
    # Of the whole cluster's there are left, without effect, rights of accounts that are no more.
    left = release.kubectl("get", "clusterroles,clusterrolebindings", "-l", OURS, "-o", "name")
    release.kubectl("delete", *left.stdout.split()).require()
    release.kubectl("delete", "crd", *DEFINITIONS).require()
