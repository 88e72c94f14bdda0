"""Batten on a cluster: the chart's own objects, and the operator as a process beside it."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batten_cluster import ClusterError, ControlPlane, free_ports
from batten_e2e import Kubectl, Output, run
from batten_tools import helm, say

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "batten"
RELEASE = "batten"
NAMESPACE = "batten-system"
READY_SECONDS = 30.0
# A Pod that ends takes terminationGracePeriodSeconds at most.
SETTLED_SECONDS = 90.0
WEBHOOKS = f"deployment/{RELEASE}-webhook"
SELECTED = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=webhook"


@dataclass
class Installation:
    """The chart rendered with a URL in place of the Service, and the operator at that URL.

    `plane` keeps the operator's process (its folder may belong to a cluster that somebody else
    runs); `kubectl` speaks to the cluster; `host` is this machine as the API server sees it;
    `arguments` are more of the operator's, `values` more of the chart's.
    """

    plane: ControlPlane
    kubectl: Kubectl
    host: str = "127.0.0.1"
    mode: str = "enforce"
    preset: str = "hardened"
    port: int = field(default_factory=lambda: free_ports(1)[0])
    arguments: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def install(self) -> None:
        """Apply the chart, start the operator and wait until the API server can call it."""
        self.kubectl("create", "namespace", NAMESPACE)
        self.deploy()

    def claim(self) -> None:
        """Make our namespace, so that what `uninstall` removes is what we brought.

        Raises ClusterError where it exists already, or the API does not answer.
        """
        created = self.kubectl("create", "namespace", NAMESPACE, "--request-timeout=15s")
        if created.code:
            raise ClusterError(f"Batten needs a namespace of its own: {created.stderr.strip()}")

    def deploy(self) -> None:
        started = time.monotonic()
        self.apply_chart()
        write_kubeconfig(self.kubectl, RELEASE, self.plane.folder / "operator.kubeconfig")
        self.start()
        say(f"Batten {self.mode}s {self.preset} after {time.monotonic() - started:.1f} s")

    def uninstall(self) -> None:
        """Remove what the chart applied, then end the operator. Raises ClusterError."""
        delete = ("delete", "--ignore-not-found", "--request-timeout=15s")
        objects = self.kubectl(*delete, "-f", "-", stdin=self.rendered())
        namespace = self.kubectl(*delete, "--wait=false", "namespace", NAMESPACE)
        self.stop()
        if objects.code or namespace.code:
            raise ClusterError(
                f"Batten is not all removed from the cluster: {objects.stderr}{namespace.stderr}"
            )

    def settings(self) -> list[str]:
        """The chart's values, as helm's arguments."""
        values = {"mode": self.mode, "preset": self.preset, "webhook.url": self.url}
        return [f"--set={key}={value}" for key, value in {**values, **self.values}.items()]

    def rendered(self) -> str:
        done = run(helm(), "template", RELEASE, str(CHART), "-n", NAMESPACE, *self.settings())
        if done.code:
            raise ClusterError(f"the chart does not render:\n{done.stderr}")
        return done.stdout

    def apply_chart(self) -> Output:
        applied = self.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=self.rendered())
        if applied.code:
            raise ClusterError(f"the chart does not apply:\n{applied.stderr}")
        return applied

    def start(self) -> None:
        self.launch("operator", self.port)
        self.wait_ready()

    def launch(
        self,
        name: str,
        port: int,
        *arguments: str,
        within: Sequence[str] = (),
        **environment: str,
    ) -> None:
        """Start a process, and do not wait for it; a replica has another name and port. `within`
        is a command that runs the one that follows it."""
        kubeconfig = str(self.plane.folder / "operator.kubeconfig")
        # What a test says of an image must not depend on who answers on the Internet.
        images = os.environ.get("BATTEN_LOOK_UP_IMAGES", "false")
        self.plane.spawn(
            name,
            [
                *within,
                sys.executable,
                "-m",
                "batten_operator",
                "--enforce" if self.mode == "enforce" else "--no-enforce",
                f"--preset={self.preset}",
                f"--listen={self.host}:{port}",
                "--listen-http=",
                f"--url={self.url}",
                f"--namespace={NAMESPACE}",
                "--drain=1s",  # no endpoints that clients would have to unlearn
                *self.arguments,
                *arguments,
            ],
            **{"KUBECONFIG": kubeconfig, "BATTEN_LOOK_UP_IMAGES": images, **environment},
        )

    def stop(self) -> None:
        self.plane.end("operator")

    def kill(self) -> None:
        self.plane.end("operator", signal.SIGKILL)

    def wait_ready(self) -> None:
        """Until the operator says so and both configurations trust its certificate."""
        deadline = time.monotonic() + READY_SECONDS
        while not (self._ready() and trusted(self.kubectl)):
            if time.monotonic() > deadline or not self.plane.running("operator"):
                log = (self.plane.folder / "operator.log").read_text(errors="replace")[-3000:]
                raise ClusterError(f"the operator is not ready; its last words:\n{log}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with urllib.request.urlopen(  # noqa: S310
                f"{self.url}/readyz", timeout=2, context=context
            ) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@dataclass
class Released:
    """A release of the chart that somebody made: the operator is in its Pods, behind its Service.

    What `Installation` is for tests that do not care how the operator runs.
    """

    kubectl: Kubectl
    replicas: int = 2

    def apply_chart(self) -> Output:
        return helm_upgrade(self.kubectl, "--reuse-values")

    def pods(self) -> list[dict[str, Any]]:
        """Of the webhooks, also those that end."""
        asked = self.kubectl("-n", NAMESPACE, "get", "pods", "-l", SELECTED, "-o", "json")
        found: list[dict[str, Any]] = json.loads(asked.require().stdout)["items"]
        return found

    def settled(self) -> list[dict[str, Any]]:
        """The Pods, once there are only those that stay. Raises ClusterError."""
        self.wait_ready()
        _until(lambda: len(self.pods()) == self.replicas, "no Pod ends any more")
        return self.pods()

    def restart(self) -> None:
        """One replica after the other. Raises ClusterError."""
        self.kubectl("-n", NAMESPACE, "rollout", "restart", WEBHOOKS).require()
        self.settled()

    def kill(self) -> None:
        """All replicas, at once."""
        self._scale(0)
        kill = ("delete", "pods", "-l", SELECTED, "--force", "--grace-period=0")
        self.kubectl("-n", NAMESPACE, *kill)
        _until(lambda: not (self.pods() or self._reached()), "all replicas are gone")

    def start(self) -> None:
        self._scale(self.replicas)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until every replica is ready, both configurations trust them, and the API server reaches
        them by their Service. Raises ClusterError."""
        status = ("rollout", "status", WEBHOOKS, "--timeout=120s")
        done = self.kubectl("-n", NAMESPACE, *status, timeout=150)
        if done.code:
            raise ClusterError(f"the release is not ready: {done.stderr.strip()}")
        _until(lambda: trusted(self.kubectl) and self._reached(), "the API server reaches them")

    def _reached(self) -> bool:
        tried = self.kubectl(
            "-n", "default", "run", "reached", "--image=registry.example/a:1", "--dry-run=server"
        )
        return "failed calling webhook" not in tried.stderr

    def _scale(self, replicas: int) -> None:
        self.kubectl("-n", NAMESPACE, "scale", WEBHOOKS, f"--replicas={replicas}").require()


def _until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SETTLED_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise ClusterError(f"not within {SETTLED_SECONDS:.0f} s: {what}")
        time.sleep(0.2)


def helm_upgrade(kubectl: Kubectl, *options: str) -> Output:
    """The release as this chart has it, made where it is not there. Raises ClusterError."""
    place = (f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={NAMESPACE}", "--create-namespace")
    command = ("upgrade", "--install", RELEASE, str(CHART), *place, *options)
    done = run(helm(), *command, "--wait", "--timeout=3m", timeout=240)
    if done.code:
        raise ClusterError(f"helm upgrade --install failed:\n{done.stderr}")
    return done


def trusted(kubectl: Kubectl) -> bool:
    """Whether both configurations say whose certificate to trust."""
    for kind in ("mutating", "validating"):
        asked = kubectl("get", f"{kind}webhookconfiguration/{RELEASE}", "-o", "json")
        if asked.code:
            return False
        hooks = json.loads(asked.stdout)["webhooks"]
        if not all(hook["clientConfig"].get("caBundle") for hook in hooks):
            return False
    return True


def write_kubeconfig(kubectl: Kubectl, account: str, path: Path) -> None:
    """For who speaks as one of the chart's ServiceAccounts, so that its RBAC is what he has."""
    asked = kubectl("config", "view", "--raw", "--minify", "-o", "json").require()
    config = json.loads(asked.stdout)
    token = kubectl("create", "token", account, "-n", NAMESPACE, "--duration=720h").require()
    config["users"] = [{"name": "operator", "user": {"token": token.stdout.strip()}}]
    config["contexts"][0]["context"]["user"] = "operator"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2))


@contextmanager
def webhooks_removed(installation: Installation | Released, *kinds: str) -> Iterator[None]:
    """Without our webhook configurations for a while: as before the installation."""
    for kind in kinds:
        installation.kubectl("delete", f"{kind}webhookconfiguration", RELEASE).require()
    try:
        yield
    finally:
        installation.apply_chart()
        installation.wait_ready()
        time.sleep(1)  # the API server follows the configurations by a watch


def ca_bundle(kubectl: Kubectl, kind: str) -> bytes:
    """The caBundle of one of our configurations, as PEM."""
    asked = kubectl("get", f"{kind}webhookconfiguration", RELEASE, "-o", "json").require()
    return base64.b64decode(json.loads(asked.stdout)["webhooks"][0]["clientConfig"]["caBundle"])
