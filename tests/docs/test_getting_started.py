"""docs/getting-started.md: its commands, one after another, print what it shows, on a real cluster.

There is no node: what needs one, or Docker, stands in blocks of text. A registry of the tests' own
stands in for Docker Hub, with the configurations that the images have there.

`BATTEN_UPDATE_GOLDENS=1 make test` writes what is shown anew; read the difference first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_cluster import ControlPlane
from batten_corpus import ROOT
from batten_e2e import eventually
from batten_install import Installation
from batten_registry import Registry, registry

from batten_webhooks.resources import read_policy

FILE = ROOT / "docs" / "getting-started.md"
FOLDER = ROOT / "docs" / "getting-started"
RUN = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NGINX: dict[str, Any] = {
    "Entrypoint": ["/docker-entrypoint.sh"],
    "Cmd": ["nginx", "-g", "daemon off;"],
    "ExposedPorts": {"80/tcp": {}},
    "StopSignal": "SIGQUIT",
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Registry]:
    with registry(tmp_path / "registry") as found:
        found.push("library/nginx", "1.27", platforms=("amd64", "arm64"), **NGINX)
        found.push("library/busybox", "latest", platforms=("amd64", "arm64"), Cmd=["sh"])
        yield found


@pytest.fixture
def plane(tmp_path: Path, hub: Registry) -> Iterator[ControlPlane]:
    """As the chart installs Batten: it observes, and images are looked up."""
    arguments = (
        "--look-up-images",
        f"--registry-mirror=docker.io={hub.host}",
        f"--plain-http={hub.host}",
    )
    with ControlPlane(tmp_path / "cluster") as started:
        Installation(started, started.kubectl, mode="observe", arguments=arguments).install()
        yield started


class Shell:
    """Runs commands in the folder of the page's files, as kubectl's only user."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        kubectl = Path(plane.kubectl.command[0]).absolute()
        self.plane = plane
        own = folder / "kubeconfig"
        shutil.copy(plane.kubeconfig, own)
        path = f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "KUBECONFIG": str(own), "PATH": path}

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=FOLDER,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self._settled(command)
        return done.stdout

    def _settled(self, command: str) -> None:
        """People type no faster than Deployments make Pods."""
        if "rollout restart" not in command:
            return

        def new() -> bool | None:
            sets = self.run("kubectl get replicasets -o jsonpath='{.items[*].status.replicas}'")
            return True if sets.split().count("1") == 2 else None

        eventually(new, "the Pod after the restart")


@pytest.mark.cluster
def test_its_commands_print_what_it_shows(plane: ControlPlane, tmp_path: Path) -> None:
    shell = Shell(plane, tmp_path)

    def ran(block: re.Match[str]) -> str:
        if block[0].startswith("```sh\n"):
            for command in block[1].splitlines():
                shell.run(command)
            return block[0]
        commands = re.findall(r"^\$ (.*)$", block[1], re.MULTILINE)
        told = "".join(f"$ {command}\n{_lines(shell.run(command))}" for command in commands)
        return f"```console\n{told}```"

    page = FILE.read_text()
    now = RUN.sub(ran, page)
    if os.environ.get("BATTEN_UPDATE_GOLDENS"):
        FILE.write_text(now)
    assert now == page


def _lines(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def test_its_policy_says_no_more_than_where() -> None:
    shown = yaml.safe_load((FOLDER / "policy.yaml").read_text())
    read_policy(shown)
    assert set(shown["spec"]) == {"match"}
