"""What `make up` starts and `make down` ends: a cluster with Batten on it, in `.cluster/`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from batten_cluster import ClusterError, ControlPlane
from batten_e2e import Kubectl, run
from batten_install import ROOT, Installation, Released
from batten_tools import ToolError, alone, asked_version, control_plane, say

FOLDER = Path(os.environ.get("BATTEN_CLUSTER") or ROOT / ".cluster").absolute()
HOST_VARIABLE = "BATTEN_HOST"
# `cluster`: the operator is what a release of the chart runs in KUBECONFIG's cluster already.
OPERATOR_VARIABLE = "BATTEN_OPERATOR"
STATE = "session.json"


@dataclass(frozen=True)
class Session:
    """`given` is the kubeconfig of a cluster that somebody else runs: only the operator is ours."""

    plane: ControlPlane
    installation: Installation
    given: str = ""

    @property
    def env_file(self) -> Path:
        return self.plane.folder / "env"

    @property
    def own_cluster(self) -> bool:
        return not self.given

    def start(self) -> None:
        """Raises ClusterError or ToolError; nothing is left running then."""
        with ExitStack() as undo:
            undo.callback(self._forget)
            self._save()
            if self.own_cluster:
                self.plane.start()
            self.installation.claim()
            if self.given:
                undo.callback(self.installation.uninstall)
            self.installation.deploy()
            self._write_env()
            undo.pop_all()

    def stop(self) -> None:
        """Raises ClusterError when a given cluster keeps something of ours; then try again."""
        if self.given:
            try:
                self.installation.uninstall()
            except ClusterError as error:
                folder = self.plane.folder
                raise ClusterError(
                    f"{error}try again when it answers, or delete {folder} to forget it"
                ) from None
        self._forget()

    def running(self) -> bool:
        return self.env_file.exists() and not self.plane.ended()

    def _forget(self) -> None:
        self.plane.stop()
        shutil.rmtree(self.plane.folder, ignore_errors=True)

    def _save(self) -> None:
        folder = self.plane.folder
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "version": self.plane.version,
            "host": self.installation.host,
            "given": self.given,
        }
        for name in (STATE, "kubeconfig"):
            (folder / name).touch(mode=0o600)
        (folder / STATE).write_text(json.dumps(state))
        (folder / "kubeconfig").write_text(self.given)

    def _write_env(self) -> None:
        kubectl = Path(self.installation.kubectl.command[0]).absolute()
        self.env_file.write_text(
            f"export KUBECONFIG={shlex.quote(str(self.plane.kubeconfig.absolute()))}\n"
            f'export PATH={shlex.quote(str(kubectl.parent))}:"$PATH"\n'
        )


def saved(folder: Path = FOLDER) -> Session | None:
    """The session that an earlier `start` in this folder began, ended or not."""
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return None
    return _session(folder, **state)


def session(folder: Path = FOLDER) -> Session:
    """What the environment asks for: KUBECONFIG's cluster, else a control plane of our own.

    Raises ClusterError or ToolError.
    """
    asked = os.environ.get("KUBECONFIG")
    if not asked or Path(asked).absolute() == (folder / "kubeconfig").absolute():
        return _session(folder, asked_version(), "127.0.0.1", "")
    viewed = run(_kubectl(), "config", "view", "--raw", "--minify", "--flatten", "-o", "json")
    if viewed.code:
        raise ClusterError(f"KUBECONFIG={asked}: {viewed.stderr.strip()}")
    server = json.loads(viewed.stdout)["clusters"][0]["cluster"]["server"]
    say(f"using the cluster at {server}, which KUBECONFIG names")
    host = os.environ.get(HOST_VARIABLE) or _own_address(server)
    return _session(folder, asked_version(), host, viewed.stdout)


def released() -> Released | None:
    """The release that the environment points to. Raises ClusterError where it is not there."""
    if os.environ.get(OPERATOR_VARIABLE) != "cluster":
        return None
    found = Released(Kubectl(_kubectl(), os.environ["KUBECONFIG"]))
    found.wait_ready()
    return found


def _session(folder: Path, version: str, host: str, given: str) -> Session:
    plane = ControlPlane(folder, version=version)
    kubectl = Kubectl(_kubectl(), str(plane.kubeconfig)) if given else plane.kubectl
    return Session(plane, Installation(plane, kubectl, host=host), given)


def _kubectl() -> str:
    return shutil.which("kubectl") or str(control_plane(asked_version()) / "kubectl")


def one_at_a_time(folder: Path = FOLDER) -> AbstractContextManager[None]:
    """One `up` or `down` at a time; a second one waits."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return alone(folder.parent, "waiting for another `make up` or `make down`")


def _own_address(server: str) -> str:
    """This machine as a given cluster's API server reaches it; BATTEN_HOST says it otherwise."""
    host = urlsplit(server).hostname or ""
    if host in {"127.0.0.1", "localhost", "::1"}:
        return _kind_gateway() or "127.0.0.1"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 443))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ClusterError(
            f"cannot tell how {host} reaches this machine ({error}): set {HOST_VARIABLE}"
        ) from None


def _kind_gateway() -> str:
    if not shutil.which("docker"):
        return ""
    form = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    asked = run("docker", "network", "inspect", "kind", "--format", form)
    return next((address for address in asked.stdout.split() if "." in address), "")


__all__ = ["ClusterError", "Session", "ToolError", "one_at_a_time", "released", "saved", "session"]
