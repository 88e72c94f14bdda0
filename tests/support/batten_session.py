"""What `make up` starts and `make down` ends: a cluster with Batten on it, in `.cluster/`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from batten_cluster import ClusterError, ControlPlane
from batten_e2e import Kubectl, run
from batten_install import ROOT, Installation
from batten_tools import DEFAULT_VERSION, ToolError, control_plane, say

FOLDER = ROOT / ".cluster"
HOST_VARIABLE = "BATTEN_HOST"
VARIABLES = ("KUBECONFIG", "KUBERNETES_VERSION", HOST_VARIABLE)
ENVIRONMENT = "environment.json"


@dataclass(frozen=True)
class Session:
    """`plane` holds the processes; with a KUBECONFIG that was given only the operator is ours."""

    plane: ControlPlane
    installation: Installation
    own_cluster: bool
    environment: dict[str, str]

    @property
    def env_file(self) -> Path:
        return self.plane.folder / "env"

    def start(self) -> None:
        """Raises ClusterError or ToolError; nothing is left running then."""
        self.plane.folder.mkdir(parents=True, exist_ok=True)
        (self.plane.folder / ENVIRONMENT).write_text(json.dumps(self.environment))
        try:
            if self.own_cluster:
                self.plane.start()
            else:
                say(f"using the cluster of {self.installation.kubectl.command[1]}")
            self.installation.install()
            self._write_env()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if not self.own_cluster:
            self.installation.uninstall()
        self.plane.stop()
        shutil.rmtree(self.plane.folder, ignore_errors=True)

    def running(self) -> bool:
        return self.env_file.exists() and self.plane.running("operator")

    def _write_env(self) -> None:
        binary, flag = self.installation.kubectl.command
        kubeconfig = Path(flag.partition("=")[2]).absolute()
        folder = Path(binary).parent.absolute()
        self.env_file.write_text(
            f"export KUBECONFIG={shlex.quote(str(kubeconfig))}\n"
            f'export PATH={shlex.quote(str(folder))}:"$PATH"\n'
        )


def saved(folder: Path = FOLDER) -> Session | None:
    """The session that an earlier `start` in this folder began, ended or not."""
    try:
        environment = json.loads((folder / ENVIRONMENT).read_text())
    except (OSError, ValueError):
        return None
    return session(folder, environment)


def session(folder: Path = FOLDER, environment: Mapping[str, str] = os.environ) -> Session:
    """What the environment asks for: KUBECONFIG's cluster, else a control plane of our own."""
    asked = {name: environment[name] for name in VARIABLES if environment.get(name)}
    version = environment.get("KUBERNETES_VERSION") or DEFAULT_VERSION
    plane = ControlPlane(folder, version=version)
    given = environment.get("KUBECONFIG")
    if not given:
        return Session(plane, Installation(plane, plane.kubectl), True, asked)
    kubectl = Kubectl(shutil.which("kubectl") or str(control_plane(version) / "kubectl"), given)
    host = environment.get(HOST_VARIABLE) or _own_address(kubectl)
    return Session(plane, Installation(plane, kubectl, host=host), False, asked)


def _own_address(kubectl: Kubectl) -> str:
    """This machine as a given cluster's API server reaches it; BATTEN_HOST says it otherwise."""
    asked = kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    server = urlsplit(asked.require().stdout).hostname or ""
    gateway = _kind_gateway() if server in {"127.0.0.1", "localhost", "::1"} else ""
    if gateway:
        return gateway
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((server, 443))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ClusterError(
            f"cannot tell how {server} reaches this machine ({error}): set {HOST_VARIABLE}"
        ) from None


def _kind_gateway() -> str:
    if not shutil.which("docker"):
        return ""
    form = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    asked = run("docker", "network", "inspect", "kind", "--format", form)
    return next((address for address in asked.stdout.split() if "." in address), "")


__all__ = ["ClusterError", "Session", "ToolError", "saved", "session"]
