"""What kubectl's commands print, word for word: `feedback/COMMAND.txt`.

`BATTEN_UPDATE_GOLDENS=1 make test` writes the files anew; read the difference before committing it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from batten_e2e import Namespace, run

pytestmark = pytest.mark.cluster

FOLDER = Path(__file__).parent / "feedback"
# Commands that one after another are given for the compliant and the violating Deployment.
COMMANDS: dict[str, list[str]] = {
    "apply": ["apply -f web.yaml", "apply -f root.yaml"],
    "dry-run": [
        "apply --dry-run=server -f web.yaml",
        "apply --dry-run=server -f root.yaml",
        "get deployments",
    ],
    "create": ["create -f web.yaml", "create -f root.yaml"],
    "run": [
        "run safe --image=registry.example/shop/web:1.4.2 --restart=Never",
        "run unsafe --image=registry.example/shop/web:1.4.2 --privileged",
    ],
    "set-image": [
        "create -f web.yaml",
        "set image deployment/web app=registry.example/shop/web:1.4.3",
        "set image deployment/web app=registry.example/shop/web:latest",
    ],
    "scale": ["create -f web.yaml", "scale deployment/web --replicas=1"],
    "patch": [
        "create -f web.yaml",
        'patch deployment web -p {"spec":{"revisionHistoryLimit":3}}',
        'patch deployment web -p {"spec":{"template":{"spec":{"hostPID":true}}}}',
    ],
    "server-side": [
        "apply --server-side --field-manager=ci -f web.yaml",
        "apply --server-side --field-manager=ci -f web.yaml",
        "apply --server-side --field-manager=ci -f root.yaml",
    ],
}


def transcript(namespace: Namespace, command: str) -> str:
    arguments = [
        str(FOLDER / part) if part.endswith(".yaml") else part for part in command.split(" ")
    ]
    done = namespace.kubectl(*arguments)
    told = done.transcript(FOLDER).replace(namespace.name, "NAMESPACE")
    return f"$ kubectl {command}\n{told}\n"


def compare(name: str, text: str) -> None:
    golden = FOLDER / f"{name}.txt"
    if os.environ.get("BATTEN_UPDATE_GOLDENS"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_command(namespace: Namespace, name: str) -> None:
    compare(name, "".join(transcript(namespace, command) for command in COMMANDS[name]))


def test_debug(namespace: Namespace) -> None:
    run_safe = "run safe --image=registry.example/shop/web:1.4.2"
    namespace.kubectl(*run_safe.split()).require()
    plain = "debug safe --image=busybox:1.36 --container=shell --profile=restricted --attach=false"
    root = "debug safe --image=busybox:1.36 --container=root --profile=sysadmin --attach=false"
    compare("debug", "".join(transcript(namespace, command) for command in (plain, root)))


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("edit-replicas", "s/replicas: 0/replicas: 1/"),
        ("edit-unsafe", "s/  terminationGracePeriodSeconds: 30/  hostPID: true/"),
    ],
)
def test_edit(namespace: Namespace, tmp_path: Path, name: str, script: str) -> None:
    """An editor that replaces text; what is refused is shown again in it, then given up."""
    namespace.kubectl("create", "-f", str(FOLDER / "web.yaml")).require()
    done = run(
        "env",
        f"KUBE_EDITOR=sed -i '{script}'",
        f"TMPDIR={tmp_path}",
        *namespace.run.command,
        f"--namespace={namespace.name}",
        "edit",
        "deployment/web",
    )
    told = done.transcript(tmp_path).replace(namespace.name, "NAMESPACE")
    told = re.sub(r"kubectl-edit-\d+", "kubectl-edit-N", told)
    compare(name, f"$ kubectl edit deployment/web    # {script}\n{told}\n")


def test_a_second_server_side_apply_finds_nothing_of_ours(namespace: Namespace) -> None:
    apply = ("apply", "--server-side", "--field-manager=ci", "-f", str(FOLDER / "web.yaml"))
    namespace.kubectl(*apply).require()
    first = namespace.get("deployment", "web", "--show-managed-fields")["metadata"]
    namespace.kubectl(*apply).require()
    second = namespace.get("deployment", "web", "--show-managed-fields")["metadata"]
    assert second["resourceVersion"] == first["resourceVersion"]
    managers = {entry["manager"] for entry in second["managedFields"]}
    assert managers <= {"ci", "kube-controller-manager"}, json.dumps(second["managedFields"])
