"""Whatever is deleted first, nothing is left that blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
from batten_cluster import ControlPlane
from batten_e2e import eventually, new_namespace
from batten_install import NAMESPACE, Installation

POD = ("run", "plain", "--image=registry.example/team/app:1")


@pytest.mark.cluster
def test_deleting_our_namespace_removes_our_webhooks(tmp_path: Path) -> None:
    with ControlPlane(tmp_path / "cluster") as plane:
        installation = Installation(plane, plane.kubectl)
        installation.install()
        installation.stop()
        with new_namespace(plane.kubectl, "team") as namespace:
            held = namespace.kubectl(*POD)
            assert "failed calling webhook" in held.stderr
            plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false").require()
            eventually(
                lambda: namespace.kubectl(*POD).code == 0 or None,
                "the garbage collector removes the configurations",
                seconds=60,
            )
            left = plane.kubectl(
                "get", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "-o", "name"
            )
            assert left.stdout == ""
