"""The kind cluster of kind-config.yaml, with Batten on it as users install it.

On a machine with Docker and the Internet kind takes its own node image; elsewhere the tests make
Docker and the image (`batten_docker`, `batten_kind_image`), and an overlay says what those need.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import batten_docker
import yaml
from batten_cluster import ClusterError
from batten_docker import Docker
from batten_e2e import Kubectl, Output, run
from batten_image import operator_image, why_no_image
from batten_install import NAMESPACE, RELEASE, ROOT, Released, helm_upgrade
from batten_kind_image import REPOSITORY, node_image
from batten_session import OPERATOR_VARIABLE
from batten_tools import (
    DEFAULT_VERSION,
    KIND,
    MODULES,
    ToolError,
    control_plane,
    go_module,
    helm,
    kind,
    kind_version,
    say,
)

CONFIG = ROOT / "kind-config.yaml"
OVERLAY = MODULES / "kind" / "overlay.yaml"
FOLDER = ROOT / ".kind"
KUBECONFIG = FOLDER / "kubeconfig"
NAME = "batten"
IMAGE_VARIABLE = "KIND_IMAGE"
# `1`: the tests that need the kind cluster are to run; otherwise they are skipped.
ASKED_VARIABLE = "BATTEN_KIND"
KIND_SECONDS, PULL_SECONDS, ANSWER_SECONDS = 600, 600, 30
# No registry is asked: what a test sees must not depend on who answers on the Internet.
VALUES = ("--set=mode=enforce", "--set=images.lookUp=false")


@dataclass(frozen=True)
class KindCluster:
    """A cluster that is there, or is yet to be made, by this Docker."""

    docker: Docker

    @cached_property
    def kubectl(self) -> Kubectl:
        found = shutil.which("kubectl") or str(control_plane(DEFAULT_VERSION) / "kubectl")
        return Kubectl(found, str(KUBECONFIG))

    @property
    def released(self) -> Released:
        return Released(self.kubectl)

    def create(self) -> None:
        """Make it, unless it is there and answers. Raises ToolError or ClusterError."""
        image = chosen_image(self.docker)
        nodes = self.nodes()
        if nodes:
            if self._of(nodes, image) and self._answer(nodes):
                say("the kind cluster is there already")
                return
            say("the kind cluster does not answer, or is not what it would be now: made anew")
            self.delete()
        started = time.monotonic()
        FOLDER.mkdir(exist_ok=True)
        self._create(image)
        self._forget_others(image)
        say(f"the kind cluster is ready after {time.monotonic() - started:.0f} s")

    def install(self) -> None:
        """Build and load the operator's image, and install the chart, or bring both up to date.
        Raises ToolError or ClusterError."""
        started = time.monotonic()
        archive = operator_image()
        self.load(archive)
        # The image's name stays the same: its Pods must be made again when it does not.
        built = f"--set-string=podAnnotations.built={archive.stem}"
        helm_upgrade(self.kubectl, *VALUES, built)
        self.released.wait_ready()
        say(f"Batten is installed after {time.monotonic() - started:.0f} s")

    def load(self, archive: Path) -> None:
        """Images into every node. Raises ToolError."""
        self._kind("load", "image-archive", str(archive), f"--name={NAME}", quiet=True)

    def nodes(self) -> list[str]:
        """Their names, which are those of their containers."""
        asked = self._kind("get", "nodes", f"--name={NAME}", quiet=True)
        return sorted(asked.stdout.split())

    def kill(self, pod: Mapping[str, Any]) -> None:
        """A Pod's containers, by SIGKILL, where they run."""
        for status in pod["status"]["containerStatuses"]:
            container = status["containerID"].rpartition("/")[2]
            ctr = ("ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container)
            self.docker("exec", pod["spec"]["nodeName"], *ctr).require()

    def restart(self) -> None:
        """Every node: all are killed, and all started, as after a power failure."""
        nodes = self.nodes()
        self.docker("kill", *nodes, timeout=120).require()
        self.docker("start", *nodes, timeout=120).require()

    def remove_release(self) -> None:
        """As `helm uninstall` does."""
        place = (f"--kubeconfig={KUBECONFIG}", f"--namespace={NAMESPACE}", "--ignore-not-found")
        run(helm(), "uninstall", RELEASE, *place, timeout=120).require()

    def remove_namespace(self) -> None:
        delete = ("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
        self.kubectl(*delete, timeout=150).require()

    def remove_definitions(self) -> None:
        """With every object of these kinds."""
        listed = self.kubectl("get", "crd", "-o", "name").require().stdout.split()
        ours = [name for name in listed if name.endswith(".batten.dev")]
        if ours:
            self.kubectl("delete", *ours, "--timeout=60s", timeout=90).require()

    def delete(self) -> None:
        """Whatever there is of it. Raises ToolError."""
        _thaw()
        self._kind("delete", "cluster", f"--name={NAME}", f"--kubeconfig={KUBECONFIG}")
        shutil.rmtree(FOLDER, ignore_errors=True)

    def _of(self, nodes: Sequence[str], image: str) -> bool:
        """Whether they were made of this node image, or of kind's own."""
        asked = self.docker("inspect", "--format", "{{.Config.Image}}", *nodes).require()
        return not image or set(asked.stdout.split()) == {image}

    def _answer(self, nodes: Sequence[str]) -> bool:
        if not KUBECONFIG.exists():
            self._kind("export", "kubeconfig", f"--name={NAME}", f"--kubeconfig={KUBECONFIG}")
        deadline = time.monotonic() + ANSWER_SECONDS
        expected = [f"node/{name}" for name in nodes]
        get = ("get", "nodes", "-o", "name", "--request-timeout=10s")
        # An API server that has just been started anew may be started once more.
        while self.kubectl(*get).stdout.split() != expected:
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
        wait = ("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
        return self.kubectl(*wait, timeout=90).code == 0

    def _create(self, image: str) -> None:
        config = yaml.safe_load(CONFIG.read_text())
        options = [f"--kubeconfig={KUBECONFIG}", "--wait=120s"]
        if image:
            config |= yaml.safe_load(OVERLAY.read_text())
            options.append(f"--image={image}")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(config, file)
            file.flush()
            self._kind("create", "cluster", *options, f"--config={file.name}")
        wait = ("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=120s")
        ready = self.kubectl(*wait, timeout=150)
        if ready.code:
            raise ClusterError(f"not every node is ready: {ready.stderr.strip()}")

    def _forget_others(self, image: str) -> None:
        """Node images of ours that this one has replaced."""
        listed = self.docker("images", REPOSITORY, "--format", "{{.Repository}}:{{.Tag}}").stdout
        old = [name for name in listed.split() if name != image]
        if old:
            self.docker("image", "rm", *old)

    def _kind(self, *arguments: str, quiet: bool = False) -> Output:
        """Its own words go to the terminal, unless nobody needs them when all is well."""
        command, name = [kind(), *arguments], f"kind {' '.join(arguments[:2])}"
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **self.docker.environment},
                capture_output=quiet,
                text=True,
                timeout=KIND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ToolError(f"{name} does not end within {KIND_SECONDS} s") from None
        if done.returncode:
            words = f":\n{done.stderr[-2000:]}" if quiet else "; its own words stand above"
            raise ToolError(f"{name} failed{words}")
        return Output(done.returncode, done.stdout or "", done.stderr or "")


def why_no_kind() -> str:
    """Why the tests that need the kind cluster do not run, "" if they do."""
    if os.environ.get(ASKED_VARIABLE) != "1":
        return f"a kind cluster takes minutes: `make kind`, or {ASKED_VARIABLE}=1, asks for it"
    return cannot()


def cannot() -> str:
    """Why this machine can have no such cluster, "" if it can."""
    return batten_docker.why_no_docker() or why_no_image()


def kind_cluster() -> KindCluster:
    """The cluster, made and installed on, or brought up to date. Raises ToolError or
    ClusterError."""
    found = KindCluster(batten_docker.docker())
    found.create()
    found.install()
    return found


def cluster_for_tests() -> KindCluster:
    """As `make kind` has just made it for the tests that it runs, else made now. Raises ToolError
    or ClusterError."""
    docker = batten_docker.running()
    if docker and os.environ.get(OPERATOR_VARIABLE) == "cluster":
        return KindCluster(docker)
    return kind_cluster()


def remove() -> bool:
    """The cluster, and Docker where it is our own; whether there was anything. Raises ToolError."""
    docker = batten_docker.running()
    if docker is None:
        return False
    KindCluster(docker).delete()
    if docker.own:
        docker("network", "rm", "kind")
        batten_docker.end()
    return True


def chosen_image(docker: Docker) -> str:
    """ "" for kind's own, where it can be had."""
    given = os.environ.get(IMAGE_VARIABLE)
    if given:
        return given
    defaults = go_module(KIND, kind_version()) / "pkg/apis/config/defaults/image.go"
    own = re.search(r'Image = "(.+)"', defaults.read_text())
    if own and not docker("pull", "--quiet", own[1], timeout=PULL_SECONDS).code:
        return ""
    say("kind's own node image cannot be pulled: taking one made here")
    return node_image(docker)


def _thaw() -> None:
    """A Pod's cgroup that stayed frozen would keep its node's container from ending."""
    for state in Path("/sys/fs/cgroup/freezer").glob("docker/**/freezer.state"):
        if state.read_text().strip() != "THAWED":
            state.write_text("THAWED")
