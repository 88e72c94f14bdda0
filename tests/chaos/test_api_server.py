"""The API server and its etcd fail under load: nothing unsafe gets in, all goes on by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from batten_chaos import WEBHOOK, Stage, Traffic, fault, measured
from batten_e2e import deployment, eventually

pytestmark = pytest.mark.cluster

PATIENCE = 120.0


def recovered(batten: Stage, traffic: Traffic, name: str, since: float) -> float:
    """Seconds until Pods are made again, a controller leads, and policies can be written."""
    workload = deployment(name)
    eventually(lambda: batten.namespace.apply(workload).code == 0 or None, "it is made", PATIENCE)
    batten.renewed(batten.lease()["renewTime"], PATIENCE)
    eventually(lambda: batten.governed(name) or None, "a policy is taken", PATIENCE)
    return max(time.monotonic() - since, traffic.recovered(since))


@fault(
    "API server restarted",
    webhooks="answer on by what they know; watches begin anew within seconds",
    controller="leaves the Lease, and leads again once it can be renewed",
)
def test_the_api_server_is_restarted(batten: Stage) -> None:
    traffic = batten.traffic()
    with traffic.flowing():
        time.sleep(2)
        start = stopped(batten)
        time.sleep(3)
        start()
        back = time.monotonic()
        seconds = recovered(batten, traffic, "restarted", back)
    traffic.right()
    batten.calm(WEBHOOK, "controller")
    measured(test_the_api_server_is_restarted, seconds, traffic.words(), "nothing")


def stopped(batten: Stage) -> Callable[[], None]:
    """How the API server is started again."""
    plane = batten.plane
    pid = json.loads((plane.folder / "kube-apiserver.pid").read_text())["pid"]
    command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    plane.end("kube-apiserver")
    return lambda: plane.spawn("kube-apiserver", command)


@fault(
    "etcd stalled for 10 s",
    webhooks="answer on: requests wait for etcd, not for them",
    controller="leaves the Lease after 8 s without renewing it, and leads again",
)
def test_etcd_stalls(batten: Stage) -> None:
    traffic = batten.traffic()
    pid = json.loads((batten.plane.folder / "etcd.pid").read_text())["pid"]
    with traffic.flowing():
        time.sleep(2)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(10)
        os.kill(pid, signal.SIGCONT)
        back = time.monotonic()
        seconds = recovered(batten, traffic, "stalled", back)
    traffic.right()
    batten.calm(WEBHOOK, "controller")
    measured(test_etcd_stalls, seconds, traffic.words(), "nothing")


def test_no_report_of_what_was_made_meanwhile_is_missing(batten: Stage) -> None:
    batten.reports_of({"restarted", "stalled"})
