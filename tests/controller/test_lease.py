"""One leader among processes, on a real API server."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batten_cluster import ControlPlane
from batten_e2e import eventually

pytestmark = pytest.mark.cluster

CANDIDATE = """
import asyncio, signal, sys
from batten_operator.cluster import Cluster
from batten_operator.lease import Lease

async def lead():
    await asyncio.Event().wait()

async def main():
    lease = Lease(Cluster(), "default", "batten-controller", sys.argv[1])
    task = asyncio.ensure_future(lease.run(lead))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.wait((task,))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("lease"), controllers=False) as running:
        yield running


def spec(plane: ControlPlane) -> dict[str, Any]:
    asked = plane.kubectl("get", "lease", "batten-controller", "-n", "default", "-o", "json")
    found: dict[str, Any] = json.loads(asked.stdout)["spec"] if asked.code == 0 else {}
    return found


def join(plane: ControlPlane, name: str) -> None:
    kubeconfig: Path = plane.kubeconfig
    plane.spawn(name, [sys.executable, "-c", CANDIDATE, name], KUBECONFIG=str(kubeconfig))


def leader(plane: ControlPlane, name: str) -> dict[str, Any]:
    def is_it() -> dict[str, Any] | None:
        found = spec(plane)
        return found if found.get("holderIdentity") == name else None

    return eventually(is_it, f"{name} leads", 30)


def test_one_leads_and_another_follows_a_death_and_a_farewell(plane: ControlPlane) -> None:
    join(plane, "one")
    first = leader(plane, "one")
    join(plane, "two")
    renewed = eventually(
        lambda: ((now := spec(plane))["renewTime"] != first["renewTime"] and now) or None,
        "the holder renews",
    )
    assert renewed["holderIdentity"] == "one"
    assert renewed["acquireTime"] == first["acquireTime"]

    plane.end("one", signal.SIGKILL)
    assert leader(plane, "two")["leaseTransitions"] == 1

    plane.end("two")
    assert spec(plane)["holderIdentity"] == ""
    join(plane, "three")
    assert leader(plane, "three")["leaseTransitions"] == 2
    plane.end("three")
