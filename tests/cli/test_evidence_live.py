"""`batten evidence verify` on a real API server that holds policies, ImageScans and reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_cluster import ControlPlane
from batten_command import Ran, batten
from batten_evidence import CRITICAL, LOW, ago, configuration, trivy_of, written
from batten_registry import Pushed, Registry, registry

from batten_webhooks.authorship import WRITTEN_BY
from batten_webhooks.resources import crds

pytestmark = pytest.mark.cluster

OPERATOR = "system:serviceaccount:trivy-system:trivy-operator"
# Trivy Operator's own definitions are not to be had here: of them only the names and the scope
# matter, as all of a report is read from what stands in it.
REPORTS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: vulnerabilityreports.aquasecurity.github.io}
spec:
  group: aquasecurity.github.io
  scope: Namespaced
  names: {kind: VulnerabilityReport, plural: vulnerabilityreports, singular: vulnerabilityreport}
  versions:
    - name: v1alpha1
      served: true
      storage: true
      schema:
        openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
POLICIES: list[dict[str, Any]] = [
    {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningPolicy",
        "metadata": {"name": "scanned"},
        "spec": {
            "match": {"namespaceSelector": {"matchLabels": {"tier": "gold"}}},
            "rules": {
                "scanned-image": {
                    "validationActions": ["Deny"],
                    "sources": [
                        {"kind": "ImageScan"},
                        {"kind": "VulnerabilityReport", "users": [OPERATOR]},
                    ],
                }
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"tier": "gold"}},
    },
]


@dataclass
class Live:
    plane: ControlPlane
    served: Registry
    pushed: Pushed
    folder: Path

    def run(self, *arguments: str, stdin: bytes = b"") -> Ran:
        local = (f"--local-registry={self.served.host}", f"--plain-http={self.served.host}")
        kubeconfig = {"KUBECONFIG": str(self.plane.kubeconfig)}
        return batten("evidence", *arguments, *local, cwd=self.folder, stdin=stdin, **kubeconfig)

    def verify(self, *arguments: str) -> Ran:
        return self.run("verify", f"{self.served.host}/shop/app:1.4", *arguments)

    def apply(self, text: str) -> None:
        self.plane.kubectl("apply", "--server-side", "-f", "-", stdin=text).require()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    with (
        registry(folder / "registry") as served,
        ControlPlane(folder / "plane", controllers=False) as plane,
    ):
        pushed = served.push("shop/app", "1.4")
        found = Live(plane, served, pushed, folder)
        names = [each["metadata"]["name"] for each in crds().values()]
        for crd in crds().values():
            found.apply(json.dumps(crd))
        found.apply(REPORTS)
        names.append("vulnerabilityreports.aquasecurity.github.io")
        for name in names:
            wait = ("wait", "--for=condition=Established", "--timeout=30s", f"crd/{name}")
            plane.kubectl(*wait).require()
        yield found


def test_the_clusters_policy_and_its_scans_are_shown(live: Live) -> None:
    pushed, served = live.pushed, live.served
    for each in POLICIES:
        live.apply(yaml.safe_dump(each))

    nothing = live.verify("--namespace=shop")
    assert nothing.code == 1
    lines = nothing.out.splitlines()
    why = "in namespace shop, priority 0, its namespaceSelector matches"
    assert f'  judged by HardeningPolicy "scanned" ({why}): at most 168h old, no CRITICAL' in lines
    assert "  looked for ImageScans" in lines
    assert f"  looked for VulnerabilityReports written by {OPERATOR}" in lines
    assert "  found nothing" in lines

    file = written(live.folder, "trivy.json", trivy_of(served, "shop/app:1.4", pushed, LOW))
    made = live.run("from", file)
    assert made.code == 0, made.err
    live.apply(made.out)
    allowed = live.verify("--namespace=shop")
    assert allowed.code == 0, allowed.out
    name = configuration(served, "shop/app", pushed.platforms["amd64"]).replace(":", "-")
    assert f'  ImageScan "{name}": counts' in allowed.out.splitlines()

    for user, told in ((OPERATOR, "counts"), ("somebody", "does not count")):
        live.apply(json.dumps(report(live, user)))
        ran = live.verify("--namespace=shop")
        start = f'  VulnerabilityReport "shop/web": {told}'
        (line,) = (line for line in ran.out.splitlines() if line.startswith(start))
        # One source never hides another.
        assert ran.code == (1 if user == OPERATOR else 0)
    assert "was written by somebody, whom the policy does not trust" in line


def report(live: Live, user: str) -> dict[str, Any]:
    digest = configuration(live.served, "shop/app", live.pushed.platforms["amd64"])
    name, severity, package, installed, fixed = CRITICAL
    return {
        "apiVersion": "aquasecurity.github.io/v1alpha1",
        "kind": "VulnerabilityReport",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            # Set by the webhook where there is one: see tests of authorship.
            "annotations": {WRITTEN_BY: user},
        },
        "report": {
            "updateTimestamp": ago(),
            "scanner": {"name": "Trivy", "version": "0.68.2"},
            "artifact": {"repository": "shop/app", "digest": digest},
            "vulnerabilities": [
                {
                    "vulnerabilityID": name,
                    "severity": severity,
                    "resource": package,
                    "installedVersion": installed,
                    "fixedVersion": fixed,
                }
            ],
        },
    }


def test_a_policy_is_tried_on_the_clusters_scans(live: Live) -> None:
    ran = live.verify("--policy=hardened")
    assert ran.code == 0, ran.out
    assert '  judged by preset "hardened": at most' in ran.out
    assert 'ImageScan "sha256-' in ran.out
    alone = live.verify("--policy=hardened", "--no-cluster")
    assert alone.code == 1
    assert "  found nothing" in alone.out


def test_a_namespace_that_is_not_there_is_told(live: Live) -> None:
    ran = live.verify("--namespace=none")
    assert ran.code == 2
    assert ran.err == "batten: the cluster has no namespace 'none': name another one\n"
