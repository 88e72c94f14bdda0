"""kustomize renders what helm renders."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batten_chart import NAMESPACE, ROOT, Rendered, merged, nested, render, without_helms_labels
from batten_e2e import run
from batten_tools import DEFAULT_VERSION, control_plane

ENFORCE = {"mode": "enforce"}
Build = Callable[[str], Rendered]


@pytest.fixture(scope="module")
def build() -> Build:
    kubectl = shutil.which("kubectl") or str(control_plane(DEFAULT_VERSION) / "kubectl")
    return lambda folder: Rendered(run(kubectl, "kustomize", str(ROOT / folder)).require().stdout)


@pytest.mark.parametrize(
    ("folder", "values"),
    [
        ("deploy/base", {}),
        ("deploy/overlays/production", merged(ENFORCE, {"replicas": 3})),
        ("deploy/overlays/kind", merged(ENFORCE, nested(("image", "pullPolicy"), "Never"))),
    ],
)
def test_the_same_objects_as_the_chart(build: Build, folder: str, values: dict[str, Any]) -> None:
    built = without_helms_labels(build(folder).objects)
    namespace = built.pop(("Namespace", NAMESPACE))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert built == without_helms_labels(render(**values).objects)


@pytest.mark.parametrize(
    ("component", "values"),
    [
        ("cert-manager", {"certificate": {"certManager": {"enabled": True}}}),
        (
            "monitoring",
            {
                "monitoring": {
                    name: {"enabled": True}
                    for name in ("serviceMonitor", "prometheusRule", "dashboard")
                }
            },
        ),
        ("network-policy", {"networkPolicy": {"enabled": True}}),
    ],
)
def test_a_component_adds_what_a_value_does(
    build: Build, tmp_path: Path, component: str, values: dict[str, Any]
) -> None:
    deploy = os.path.relpath(ROOT / "deploy", tmp_path)
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{deploy}/base"],
        "components": [f"{deploy}/components/{component}"],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    built = without_helms_labels(build(str(tmp_path)).objects)
    del built["Namespace", NAMESPACE]
    rendered = without_helms_labels(render(**values).objects)
    for objects in (built, rendered):
        for value in objects.values():
            _order_names(value)
    assert built == rendered


def _order_names(value: dict[str, Any]) -> None:
    """A patch puts what is new first: where things have names their order says nothing."""
    if value["kind"] == "Deployment":
        spec = value["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        for named in (spec["volumes"], container["env"], container["volumeMounts"]):
            named.sort(key=lambda each: str(each["name"]))


def test_one_file_installs_the_same(build: Build) -> None:
    installed = Rendered((ROOT / "deploy" / "install.yaml").read_text())
    assert installed.objects[0]["kind"] == "Namespace"
    assert without_helms_labels(installed.objects) == without_helms_labels(
        build("deploy/base").objects
    )


def test_our_own_check_finds_nothing_that_it_would_refuse() -> None:
    """Images are the administrator's to name by digest: that is advice."""
    checked = run(sys.executable, "-m", "batten_webhooks.cli", "check", str(ROOT / "deploy"))
    assert checked.code == 0, checked.stdout
    assert "0 errors" in checked.stdout + checked.stderr
    assert set(re.findall(r"warning\[([a-z-]+)\]", checked.stdout)) <= {"pinned-digest"}


def test_nothing_tells_of_helm(build: Build) -> None:
    assert "helm" not in build("deploy/base").text.lower()
