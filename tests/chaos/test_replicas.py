"""Replicas come and go under load, on a real cluster of three nodes, and nothing unsafe gets in.

`python -m bench.replicas` runs it and writes its figures to docs/operations.md.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batten_e2e import Namespace, eventually, new_namespace
from batten_image import NAME as IMAGE
from batten_install import helm_upgrade
from batten_kind import KindCluster, cluster_for_tests, why_no_kind
from batten_load import Load

pytestmark = pytest.mark.cluster

ROWS = "BATTEN_REPLICAS_ROWS"
# Pods a second: the first of these that the machine bears, answering 99 of 100 within a second.
RATES = (100, 50, 25, 10)
BEARABLE = 1000.0
# Long enough that what goes on has an undisturbed beginning and end.
LULL = 5.0
ANSWERS = ("hardened", "refused", "held", "failed", "unhardened", "let in")


@pytest.fixture(scope="module")
def cluster() -> KindCluster:
    why = why_no_kind()
    if why:
        pytest.skip(why)
    return cluster_for_tests()


@pytest.fixture
def namespace(cluster: KindCluster) -> Iterator[Namespace]:
    with new_namespace(cluster.kubectl, f"load-{uuid.uuid4().hex[:8]}") as fresh:
        yield fresh
    cluster.released.settled()


@pytest.fixture(scope="module")
def rate(cluster: KindCluster) -> float:
    """A cluster that has more to do than it can would tell of that, and of nothing else."""
    with new_namespace(cluster.kubectl, f"load-{uuid.uuid4().hex[:8]}") as namespace:
        for tried in RATES:
            load = Load(cluster.kubectl, namespace.name, tried)
            with load.flowing():
                time.sleep(LULL)
            counted = load.counted()
            if not counted["failed"] and load.milliseconds()[1] < BEARABLE:
                return tried
    pytest.skip(f"this machine does not even bear {RATES[-1]} Pods a second now")


def measured(what: str, load: Load, seconds: float | None = None) -> None:
    """A row of the table; `seconds` until all was as before, where something was not."""
    counted = load.counted()
    median, late = load.milliseconds()
    row = {
        "what": what,
        "rate": round(load.rate()),
        **{name: counted[name] for name in ANSWERS},
        "p50": round(median, 1),
        "p99": round(late, 1),
        "seconds": None if seconds is None else round(seconds, 1),
    }
    print(row, *load.failures().items(), sep="\n")
    if file := os.environ.get(ROWS):
        with Path(file).open("a") as rows:
            rows.write(json.dumps(row) + "\n")


def nothing_got_in(load: Load, namespace: Namespace) -> None:
    counted = load.counted()
    assert counted["hardened"], load.failures()
    assert counted["refused"], load.failures()
    assert not counted["unhardened"] + counted["let in"], counted
    for pod in namespace.get("pods")["items"]:
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


def nothing_failed(load: Load, namespace: Namespace) -> None:
    nothing_got_in(load, namespace)
    counted = load.counted()
    assert not counted["failed"] + counted["held"], load.failures()


def test_a_rolling_restart_fails_no_request(
    cluster: KindCluster, namespace: Namespace, rate: float
) -> None:
    load = Load(cluster.kubectl, namespace.name, rate)
    with load.flowing():
        time.sleep(LULL)
        cluster.released.restart()
        time.sleep(LULL)
    measured("rolling restart", load)
    nothing_failed(load, namespace)


def test_an_upgrade_fails_no_request(
    cluster: KindCluster, namespace: Namespace, rate: float
) -> None:
    load = Load(cluster.kubectl, namespace.name, rate)
    with load.flowing():
        time.sleep(LULL)
        turn = f"--set-string=podAnnotations.turn={uuid.uuid4().hex}"
        helm_upgrade(cluster.kubectl, "--reuse-values", turn)
        cluster.released.settled()
        time.sleep(LULL)
    measured("helm upgrade", load)
    nothing_failed(load, namespace)


def test_a_replica_killed_lets_nothing_in(
    cluster: KindCluster, namespace: Namespace, rate: float
) -> None:
    """What it was asked then fails, or is held: until its address is out of the Service."""
    victim = cluster.released.settled()[0]
    load = Load(cluster.kubectl, namespace.name, rate)
    with load.flowing():
        time.sleep(LULL)
        cluster.kill(victim)
        time.sleep(2 * LULL)
    lost = load.span("failed", "held")
    measured("one of two replicas killed", load, lost)
    nothing_got_in(load, namespace)
    # The other half went on being answered.
    assert load.answers[-1].what in ("hardened", "refused")
    assert load.counted()["failed"] + load.counted()["held"] < len(load.answers) / 4


def test_without_replicas_nothing_gets_in(
    cluster: KindCluster, namespace: Namespace, rate: float
) -> None:
    """Changes of Pods pass by, judgements do not: no Pod is made until somebody answers."""
    load = Load(cluster.kubectl, namespace.name, rate / 5, dry_run=False)
    with load.flowing():
        time.sleep(LULL)
        cluster.released.kill()
        time.sleep(LULL)
        asked = len(load.answers)
        time.sleep(LULL)
        meanwhile = {answer.what for answer in load.answers[asked:]}
        started = time.monotonic()
        cluster.released.start()
        time.sleep(LULL)
    assert meanwhile == {"failed"}
    measured("no replica left, then two again", load, _recovered(load, started))
    nothing_got_in(load, namespace)


def test_every_node_restarts_at_once(
    cluster: KindCluster, namespace: Namespace, rate: float
) -> None:
    """As after a power failure: the cluster comes up, our own Pods among the others, although
    webhooks that nobody serves yet hold every Pod."""
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [_serving()]}}
    web = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }
    namespace.apply(web).require()
    _available(namespace, 2)
    load = Load(cluster.kubectl, namespace.name, rate / 5)
    with load.flowing():
        time.sleep(LULL)
        cluster.restart()
        started = time.monotonic()
        eventually(lambda: _answered(load, started), "Pods are judged again", 300)
        time.sleep(LULL)
    cluster.released.wait_ready()
    _available(namespace, 2)
    measured("every node killed and started", load, _recovered(load, started))
    nothing_got_in(load, namespace)


def _serving() -> dict[str, Any]:
    command = ["python3", "-m", "http.server", "8000", "--directory", "/opt"]
    return {"name": "web", "image": IMAGE, "command": command}


def _available(namespace: Namespace, replicas: int) -> None:
    def all_are() -> bool | None:
        asked = namespace.kubectl("get", "deployment", "web", "-o", "json")
        status = json.loads(asked.stdout)["status"] if not asked.code else {}
        return status.get("availableReplicas") == replicas or None

    eventually(all_are, f"{replicas} Pods of the Deployment serve", 180)


def _answered(load: Load, since: float) -> bool | None:
    right = (a for a in load.answers if a.at > since and a.what in ("hardened", "refused"))
    return any(right) or None


def _recovered(load: Load, since: float) -> float:
    """Seconds until the first right answer after which nothing failed."""
    bad = [answer.at for answer in load.answers if answer.what in ("failed", "held")]
    last = max(bad, default=since)
    return min(a.at for a in load.answers if a.at > last) - since


@pytest.mark.parametrize("first", ["namespace", "definitions", "release"])
def test_removed_in_any_order_nothing_blocks(
    cluster: KindCluster, namespace: Namespace, first: str
) -> None:
    """Whatever goes first: Pods can be made again at once, and what is left goes too."""
    orders: dict[str, tuple[Callable[[], None], ...]] = {
        "namespace": (cluster.remove_namespace, cluster.remove_definitions),
        "definitions": (cluster.remove_definitions, cluster.remove_release),
        "release": (cluster.remove_release, cluster.remove_namespace, cluster.remove_definitions),
    }
    pod = ("run", "root", "--image=registry.example/a:1", "--privileged", "--dry-run=server")
    try:
        assert "no-privileged" in namespace.kubectl(*pod).stderr
        for remove in orders[first]:
            remove()
        eventually(
            lambda: namespace.kubectl(*pod).code == 0 or None, "nobody judges Pods any more", 60
        )
        namespace.run("delete", "namespace", namespace.name, "--timeout=60s", timeout=90).require()
        left = cluster.kubectl("get", "crd", "-o", "name").require().stdout
        assert "batten.dev" not in left
    finally:
        cluster.remove_namespace()
        cluster.install()
