"""A tag that moves 200 times while everything is rolled out, restarted, scaled and rolled back."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from batten_e2e import Namespace, eventually
from batten_pinning import image_of, pins, workload
from batten_registry import Registry

pytestmark = pytest.mark.cluster

MOVES = 200
SEED = 20_271
NAMES = {"deployment": "web", "statefulset": "db", "daemonset": "agent"}


def test_no_revision_ever_has_two_digests(namespace: Namespace, plain: Registry) -> None:
    image = f"{plain.host}/{namespace.name}:moving"
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace.name}}
    plain.push(namespace.name, "moving", User="1000")
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}}
    job = {"spec": workload("Job", image)["spec"]}
    namespace.apply(
        node,
        workload("Deployment", image, "web", replicas=2),
        workload("StatefulSet", image, "db", replicas=2),
        workload("DaemonSet", image, "agent"),
        cron | {"spec": {"schedule": "0 3 * * *", "jobTemplate": job}},
    ).require()
    namespace.pods(5)
    seen = Seen(namespace, image)
    choose = random.Random(SEED)  # noqa: S311 - it picks what a test does
    for move in range(MOVES):
        plain.push(namespace.name, "moving", User=str(2000 + move))
        namespace.kubectl(*_step(choose, move)).require()
        if move % 5 == 4:
            seen.look()
    eventually(lambda: True if len(seen.look()) >= 20 else None, "twenty revisions with Pods")
    namespace.kubectl("delete", "node", namespace.name).require()
    assert {owner: digests for owner, digests in seen.pods.items() if len(digests) > 1} == {}
    assert {key: digests for key, digests in seen.pins.items() if len(digests) > 1} == {}
    found = set.union(*seen.pods.values())
    assert len(found) >= 3, "the tag's moves never showed"
    assert "" not in found, "a Pod kept its tag"


class Seen:
    """The digests that Pods had, by their revision, and those that revisions had."""

    def __init__(self, namespace: Namespace, image: str) -> None:
        self._namespace = namespace
        self._image = image
        self.pods: defaultdict[str, set[str]] = defaultdict(set)
        self.pins: defaultdict[str, set[str]] = defaultdict(set)

    def look(self) -> dict[str, set[str]]:
        for pod in self._namespace.get("pods")["items"]:
            metadata = pod["metadata"]
            (owner,) = metadata["ownerReferences"]
            revision = metadata["labels"].get("controller-revision-hash", "")
            text, _, digest = image_of(pod).partition("@")
            assert text == self._image
            self.pods[f"{owner['uid']} {revision}"].add(digest)
        for revision in self._namespace.get("replicasets,controllerrevisions,jobs")["items"]:
            for found in pins(revision).values():
                self.pins[revision["metadata"]["uid"]].add(found[self._image])
        return self.pods


def _step(choose: random.Random, move: int) -> list[str]:
    kind = choose.choice(list(NAMES))
    target = f"{kind}/{NAMES[kind]}"
    return choose.choice(
        [
            ["set", "env", target, f"MOVE={move}"],
            ["rollout", "undo", target] if move > 40 else ["set", "env", target, f"MOVE={move}"],
            ["scale", "deployment/web", f"--replicas={choose.randint(1, 4)}"],
            ["scale", "statefulset/db", f"--replicas={choose.randint(1, 3)}"],
            ["delete", "pods", "--all", "--force", "--grace-period=0"],
            ["create", "job", f"at-{move}", "--from=cronjob/nightly"],
        ]
    )
