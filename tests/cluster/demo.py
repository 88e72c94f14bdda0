"""`make demo`: the main job on a real API server, then everything is ended again."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_demo import scanned
from batten_e2e import Kubectl, Namespace, Output, eventually, new_namespace
from batten_session import ClusterError, Session, ToolError, saved, session
from batten_tools import say

FILES = Path(__file__).parent / "demo"
POLICY = "batten-demo"
BATTEN = Path(sys.executable).with_name("batten")


def main() -> int:
    started = time.monotonic()
    try:
        with _session() as current:
            run = current.installation.kubectl
            restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
            name = f"demo-{int(time.time())}"
            with (
                new_namespace(run, name, {"team": POLICY}) as namespace,
                new_namespace(run, f"{name}-restricted", restricted) as strict,
            ):
                _tour(namespace, strict)
                with _removed(run):
                    _governed(namespace)
            scanned(current, _title, _show)
    except (ClusterError, ToolError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"the demo took {time.monotonic() - started:.0f} s")
    return 0


@contextmanager
def _session() -> Iterator[Session]:
    """What `make up` left running, or a session of the demo's own."""
    running = saved()
    if running and running.running():
        yield running
        return
    with tempfile.TemporaryDirectory(prefix="batten-demo-") as folder:
        own = session(Path(folder, "cluster"))
        own.start()
        try:
            yield own
        finally:
            own.stop()


def _tour(namespace: Namespace, strict: Namespace) -> None:
    _title("A Deployment as most people write it")
    _show("cat web.yaml", (FILES / "web.yaml").read_text())
    _kubectl(namespace, "apply", "-f", "web.yaml")
    _title("Its Pods come out hardened; this is what changed, against the Deployment's template")
    pod = namespace.pods(2, "app=web")[0]
    template = namespace.get("deployment", "web")["spec"]["template"]["spec"]
    print(_difference(template, pod["spec"]))

    _title("Kubernetes' own Pod Security admission takes such Pods where it enforces `restricted`")
    strict.apply(namespace.get("deployment", "web") | {"metadata": {"name": "web"}}).require()
    count = len(strict.pods(2, "app=web"))
    print(f"{count} Pods of the same Deployment in a namespace with enforce=restricted")

    _title("One that says the opposite is refused, at apply, with the way out")
    _kubectl(namespace, "apply", "-f", "legacy.yaml")

    _title("A debugging container is held to the same, and only it is changed")
    _kubectl(
        namespace,
        "debug",
        pod["metadata"]["name"],
        "--image=busybox:1.36",
        "--container=shell",
        "--profile=sysadmin",
        "--attach=false",
    )

    _title("The same engine offline: what is wrong with a file, and the edit that mends it")
    _batten("check", "misplaced.yaml")
    _batten("harden", "--diff", "misplaced.yaml")


@contextmanager
def _removed(run: Kubectl) -> Iterator[None]:
    """What belongs to the cluster and not to the demo's namespaces goes at the end."""
    try:
        yield
    finally:
        run("delete", "hardeningpolicy,hardeningexception", POLICY, "--ignore-not-found")


def _governed(namespace: Namespace) -> None:
    _title("A policy for the namespaces of a team: exactly one policy governs a Pod")
    _show("cat policy.yaml", (FILES / "policy.yaml").read_text())
    _kubectl(namespace, "apply", "-f", "policy.yaml")
    environment = {**os.environ, "KUBECONFIG": namespace.run.kubeconfig}
    explain = ("explain", "--for", "web.yaml", "--namespace", namespace.name)
    _batten(*explain, environment=environment)
    _kubectl(namespace, "apply", "-f", "legacy.yaml")

    _title("An exception: for one container, with a reason and an end, of which it warns")
    with tempfile.TemporaryDirectory(prefix="batten-demo-") as folder:
        granted = Path(folder, "exception.yaml")
        ends = datetime.now(UTC) + timedelta(days=7)
        text = (FILES / "exception.yaml").read_text().replace("NAMESPACE", namespace.name)
        granted.write_text(text.replace("EXPIRES", ends.strftime("%Y-%m-%dT%H:%M:%SZ")))
        _show("cat exception.yaml", granted.read_text())
        done = namespace.kubectl("apply", "-f", str(granted)).require()
        _show("kubectl apply -f exception.yaml", _text(done))
    _eventually_applied(namespace)

    _title("What runs in the cluster, judged by what governs it; the page is for a browser")
    _batten("audit", "--namespace", namespace.name, environment=environment)
    page = Path(tempfile.gettempdir(), "batten-audit.html")
    arguments = ("audit", "--namespace", namespace.name, "--format", "html", "--output", str(page))
    _batten(*arguments, environment=environment)
    print(f"{page}: {page.stat().st_size // 1024} KiB, one file with everything in it")


def _eventually_applied(namespace: Namespace) -> None:
    """As soon as the exception has reached the webhooks."""
    manifest = ("-f", str(FILES / "legacy.yaml"))
    eventually(
        lambda: (
            True if namespace.kubectl("apply", "--dry-run=server", *manifest).code == 0 else None
        ),
        "the exception holds",
        10,
    )
    _kubectl(namespace, "apply", "-f", "legacy.yaml")


def _title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m\n" if sys.stdout.isatty() else f"\n## {text}\n", flush=True)


def _kubectl(namespace: Namespace, *arguments: str) -> None:
    files = [str(FILES / a) if a.endswith(".yaml") else a for a in arguments]
    done = namespace.kubectl(*files)
    _show(f"kubectl {' '.join(arguments)}", _text(done))


def _batten(*arguments: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [BATTEN, *arguments],
        cwd=FILES,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    _show(f"batten {' '.join(arguments)}", done.stdout + done.stderr)


def _text(done: Output) -> str:
    return (done.stderr + done.stdout).replace(f"{FILES}/", "")


def _show(command: str, output: str) -> None:
    print(f"$ {command}\n{output}", flush=True)


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The Pod's spec against its template's, without what the API server and scheduler add."""
    for name in ("serviceAccount", "serviceAccountName", "tolerations", "preemptionPolicy"):
        after.pop(name, None)
    for name in ("enableServiceLinks", "priority"):
        after.pop(name, None)
    after["volumes"] = [v for v in after["volumes"] if not v["name"].startswith("kube-api-access")]
    for container in after["containers"]:
        container["volumeMounts"] = [
            mount
            for mount in container["volumeMounts"]
            if not mount["name"].startswith("kube-api-access")
        ]
    old, new = (yaml.safe_dump(value).splitlines() for value in (before, after))
    return "\n".join(difflib.unified_diff(old, new, "template", "pod", lineterm="", n=1))


if __name__ == "__main__":
    sys.exit(main())
