"""`python -m bench.audit [--pods N]`: how long `batten audit` takes on a real API server, and how
much memory; without a node the Pods stay Pending, which counts as much.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from batten_cluster import ControlPlane

NAMESPACES = 20
SPECS = 300
CREATORS = 16


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.audit", description=__doc__)
    parser.add_argument("--pods", type=int, default=10_000)
    pods: int = parser.parse_args().pods
    with TemporaryDirectory(prefix="batten-audit-") as name, ControlPlane(Path(name)) as plane:
        started = time.perf_counter()
        _create(plane, pods)
        print(f"{pods:,} Pods created in {time.perf_counter() - started:.0f} s")
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "batten_webhooks.cli", "audit", "--format", "json"],
            env={**os.environ, "KUBECONFIG": str(plane.kubeconfig)},
            stdout=subprocess.PIPE,
            check=False,
        )
        seconds = time.perf_counter() - started
        memory = _peak()
        judged = sum(each["pods"] for each in json.loads(done.stdout)["workloads"])
        print(f"batten audit: {judged:,} Pods in {seconds:.1f} s, at most {memory:.0f} MiB")
    return 0 if judged == pods else 1


def _peak() -> float:
    """MiB of the largest child so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _create(plane: ControlPlane, count: int) -> None:
    for number in range(NAMESPACES):
        plane.kubectl("create", "namespace", f"team-{number}")
    shares = [range(first, count, CREATORS) for first in range(CREATORS)]
    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(lambda share: _create_share(plane, share), shares))


def _create_share(plane: ControlPlane, share: range) -> None:
    connection = _connect(plane)
    for number in share:
        path = f"/api/v1/namespaces/team-{number % NAMESPACES}/pods"
        body = json.dumps(_pod(number))
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise SystemExit(f"POST {path}: {text.decode(errors='replace')}")


def _connect(plane: ControlPlane) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(plane.folder / "ca.crt"))
    context.load_cert_chain(plane.folder / "admin.crt", plane.folder / "admin.key")
    config = yaml.safe_load(plane.kubeconfig.read_text())
    address = urlsplit(config["clusters"][0]["cluster"]["server"])
    return http.client.HTTPSConnection(
        str(address.hostname), address.port, timeout=60, context=context
    )


def _pod(number: int) -> dict[str, Any]:
    spec = number % SPECS
    container: dict[str, Any] = {
        "name": f"app-{spec}",
        "image": f"registry.example/team/app-{spec}:1.{spec}",
        "env": [{"name": f"SETTING_{index}", "value": str(index)} for index in range(spec % 20)],
        "ports": [{"containerPort": 8000 + spec}],
    }
    if spec % 3 == 0:
        container["securityContext"] = {"runAsUser": 0}
    metadata = {"name": f"pod-{number}", "labels": {"app": f"app-{spec}"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"automountServiceAccountToken": False, "containers": [container]},
    }


if __name__ == "__main__":
    sys.exit(main())
