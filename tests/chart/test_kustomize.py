"""kustomize renders what helm renders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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


def test_nothing_tells_of_helm(build: Build) -> None:
    assert "helm" not in build("deploy/base").text.lower()
