"""A namespace on the tests' cluster, driven by the real kubectl."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")

# Where nothing asks a registry, so that none has to have it.
IMAGE = "registry.example/team/app:1.4.2"


@dataclass(frozen=True)
class Output:
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    def transcript(self, folder: Path | None = None) -> str:
        """Both streams and the code, without the folder's name: the same on every machine."""
        text = self.stderr + self.stdout + f"exit code {self.code}\n"
        return text.replace(f"{folder}/", "") if folder else text

    def require(self) -> Output:
        assert self.code == 0, self.stderr
        return self


def run(*command: str, stdin: str | None = None, timeout: float = 60) -> Output:
    """Run a program to its end."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    return Output(done.returncode, done.stdout, done.stderr)


class Kubectl:
    """Runs kubectl against one cluster."""

    def __init__(self, binary: str, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        self.command = [binary, f"--kubeconfig={kubeconfig}"]

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> Output:
        return run(*self.command, *arguments, stdin=stdin, timeout=timeout)


def container(name: str = "app", **fields: Any) -> dict[str, Any]:
    """One that says nothing of security."""
    return {"name": name, "image": IMAGE, **fields}


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container()], **spec},
    }


def deployment(name: str, *, replicas: int = 1, **pod: Any) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container()], **pod},
            },
        },
    }


@dataclass(frozen=True)
class Namespace:
    """One namespace of the cluster."""

    name: str
    run: Kubectl

    def kubectl(self, *arguments: str, stdin: str | None = None) -> Output:
        return self.run(f"--namespace={self.name}", *arguments, stdin=stdin)

    def apply(self, *objects: dict[str, Any]) -> Output:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        return self.kubectl("apply", "-f", "-", stdin=json.dumps(items))

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json").require().stdout)

    def pods(self, count: int, selector: str = "") -> list[Any]:
        """The Pods, once there are at least `count` of them."""
        arguments = ["pods"] + ([f"--selector={selector}"] if selector else [])

        def enough() -> list[Any] | None:
            items: list[Any] = self.get(*arguments)["items"]
            return items if len(items) >= count else None

        return eventually(enough, f"{count} Pods in {self.name}")


def eventually(attempt: Callable[[], Value | None], what: str, seconds: float = 30) -> Value:
    """The first value that `attempt` gives; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = attempt()
        if value is not None:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def served(kubectl: Kubectl, *names: str) -> None:
    """Wait until objects of these kinds, as `widgets.example.com`, can be made."""

    def all_are() -> bool | None:
        return all(kubectl("get", name).code == 0 for name in names) or None

    eventually(all_are, f"{', '.join(names)} are served")


@contextmanager
def new_namespace(
    run: Kubectl, name: str, labels: dict[str, str] | None = None
) -> Iterator[Namespace]:
    """A namespace with its default ServiceAccount; deleted (not waited for) at the end."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels or {}},
    }
    run("create", "-f", "-", stdin=json.dumps(manifest)).require()
    eventually(
        lambda: True if run("-n", name, "get", "serviceaccount", "default").code == 0 else None,
        f"the default ServiceAccount of {name}",
    )
    yield Namespace(name, run)
    run("delete", "namespace", name, "--wait=false", "--ignore-not-found").require()
