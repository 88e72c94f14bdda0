"""`batten audit` and `batten rollout` on a real API server with its controllers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml
from batten_chart import ROOT
from batten_cluster import ControlPlane
from batten_e2e import eventually

from batten_operator.scan import Scan, governing_in, reader
from batten_webhooks.audit import Audit
from batten_webhooks.governance import Governance, GoverningPolicy
from batten_webhooks.policy import PRESETS
from batten_webhooks.selectors import selector

pytestmark = pytest.mark.cluster

OBJECTS = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: fine}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: app, image: "nginx:1.27", securityContext: {runAsUser: 0}}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: fine}
spec:
  schedule: "0 0 1 1 *"
  suspend: true
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: app, image: "nginx:1.27"}]}
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("audit")) as plane:
        file = plane.folder / "objects.yaml"
        file.write_text(OBJECTS)
        assert plane.kubectl("apply", "-f", str(file)).code == 0

        def both() -> bool | None:
            names = plane.kubectl("-n", "shop", "get", "pods", "-o", "name").stdout.split()
            return len(names) == 2 or None

        eventually(both, "two Pods of the Deployment")
        yield plane


def batten(plane: ControlPlane, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batten_webhooks.cli", *arguments],
        env={**os.environ, "KUBECONFIG": str(plane.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_pods_are_told_of_by_their_top_level_owner(plane: ControlPlane) -> None:
    done = batten(plane, "audit", "--format", "json")
    assert done.returncode == 1, done.stderr
    audit = json.loads(done.stdout)
    schema = json.loads((ROOT / "docs/schemas/audit.v1.json").read_text())
    jsonschema.validate(audit, schema)
    found = {(each["kind"], each["name"]): each for each in audit["workloads"]}
    assert set(found) == {("Deployment", "web"), ("CronJob", "nightly")}
    web, nightly = found["Deployment", "web"], found["CronJob", "nightly"]
    assert (web["pods"], web["outcome"]) == (2, "refused")
    refused = [each for each in web["remarks"] if each["outcome"] == "refused"]
    assert [each["path"] for each in refused] == [
        "spec.template.spec.containers[0].securityContext.runAsUser"
    ]
    assert nightly["pods"] == 0
    for remark in nightly["remarks"]:
        assert remark["outcome"] != "refused"
        yaml.safe_load(remark["lines"])


def test_a_policy_is_tried_before_it_is_applied(plane: ControlPlane) -> None:
    assert batten(plane, "audit", "--policy", "baseline").returncode == 0
    assert batten(plane, "audit", "--namespace", "fine").returncode == 0


def test_what_may_not_be_read_is_told_in_a_line(plane: ControlPlane, tmp_path: Path) -> None:
    config = yaml.safe_load(plane.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": "wrong"}
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "batten_webhooks.cli", "audit"],
        env={**os.environ, "KUBECONFIG": str(file)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Unauthorized" in done.stderr


def test_the_next_step_follows_what_would_be_refused(plane: ControlPlane) -> None:
    done = batten(plane, "rollout")
    assert done.returncode == 0, done.stderr
    policies = {each["metadata"]["name"]: each for each in yaml.safe_load_all(done.stdout) if each}
    named = {
        name: policy["spec"]["match"]["namespaceSelector"]["matchExpressions"][0]["values"]
        for name, policy in policies.items()
    }
    assert named == {"batten-rollout-warn": ["shop"], "batten-rollout-deny": ["fine"]}


def test_a_namespace_newer_than_the_audit_is_named_and_not_judged(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its labels decide and are not known: it is never one without labels."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    gold = GoverningPolicy("gold", PRESETS["baseline"], namespaces=selector({"tier": "gold"}))

    async def judge() -> Audit:
        async with reader() as opened:
            governing = await governing_in(opened, Governance(PRESETS["hardened"], [gold]))
            for words in (
                ("create", "namespace", "late"),
                ("create", "deployment", "web", "--namespace=late", "--image=a", "--replicas=0"),
            ):
                await asyncio.to_thread(plane.kubectl, *words)
            return await Scan(opened, governing, (), namespaces=["late", "fine"]).run()

    audit = asyncio.run(judge())
    assert [workload.namespace for workload in audit.workloads] == ["fine"]
    unknown = "the labels of the namespace 'late' are not known"
    assert audit.problems == [f"Deployment late/web: {unknown}"]
