"""What `run-as-non-root` says of a container is what a real kubelet makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from batten_cluster import ControlPlane
from batten_e2e import eventually
from batten_node import Node, node
from batten_tools import why_no_node
from jsonpatch import apply_patch

from batten_webhooks.engine import evaluate
from batten_webhooks.image_facts import ImageFacts
from batten_webhooks.patch import operations
from batten_webhooks.policy import Policy, Setting
from batten_webhooks.rules import run_as_non_root
from batten_webhooks.rules.rule import Facts
from batten_webhooks.verdict import Verdict
from batten_webhooks.workload import read_object

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(why_no_node()), reason=f"no node: {why_no_node()}"),
]

USERS = ("", "0", "0:1000", "root", "1000", "1000:0", "app", "app:app", "007", "+1000", ":1000")
UNSAID = object()
# (runAsUser, runAsNonRoot)
SAID = tuple((uid, flag) for uid in (UNSAID, 0, 1000) for flag in (UNSAID, True, False))
IMAGES = {f"localhost/user:{index}": user for index, user in enumerate(USERS)}
FACTS = Facts({image: ImageFacts(user=user) for image, user in IMAGES.items()})
RULE = run_as_non_root.RULE
POLICY = Policy("t", (Setting(RULE, "Enabled", RULE.actions, RULE.parameters()),))
REFUSED = "CreateContainerConfigError"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    with ControlPlane(folder / "plane") as plane, node(plane, folder / "node") as found:
        found.load({image: {"User": user} for image, user in IMAGES.items()})
        yield found


def security(uid: object, flag: object) -> dict[str, Any]:
    said = {"runAsUser": uid, "runAsNonRoot": flag}
    return {name: value for name, value in said.items() if value is not UNSAID}


def container(name: str, image: str, context: dict[str, Any]) -> dict[str, Any]:
    said = {"securityContext": context} if context else {}
    return {"name": name, "image": image, "imagePullPolicy": "Never", **said}


def pods() -> Iterator[dict[str, Any]]:
    """Every combination, said on the Pod and on the container."""
    for index, said in enumerate(SAID):
        containers = [container(f"c{i}", image, {}) for i, image in enumerate(IMAGES)]
        yield pod(f"level-pod-{index}", containers, securityContext=security(*said))
    for index, image in enumerate(IMAGES):
        containers = [container(f"c{i}", image, security(*said)) for i, said in enumerate(SAID)]
        yield pod(f"level-container-{index}", containers)


def pod(name: str, containers: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": containers, "terminationGracePeriodSeconds": 0, **spec},
    }


def judged(value: dict[str, Any]) -> tuple[dict[str, Any], Verdict]:
    """The Pod as the webhook makes it, and what is said of that."""
    workload = read_object(value)
    assert workload is not None
    changes = [each.change for each in evaluate(workload, POLICY, FACTS).changes]
    hardened = apply_patch(value, operations(workload, changes))
    workload = read_object(hardened)
    assert workload is not None
    return hardened, evaluate(workload, POLICY, FACTS)


def predicted(value: dict[str, Any], verdict: Verdict) -> dict[str, bool]:
    """Which containers are refused. Where somebody said `runAsNonRoot: false`, which the rule
    refuses for its own sake, the kubelet starts them all."""
    result = {}
    pod_level = value["spec"].get("securityContext", {})
    for each in value["spec"]["containers"]:
        effective = {**pod_level, **each.get("securityContext", {})}
        blamed = [v for v in verdict.violations if v.finding.container in ("", each["name"])]
        users = [v for v in blamed if v.finding.path.endswith("runAsUser")]
        if any(not v.finding.container for v in users) and "runAsUser" in each.get(
            "securityContext", {}
        ):
            users = [v for v in users if v.finding.container]
        result[each["name"]] = bool(users) and effective.get("runAsNonRoot") is True
    return result


def outcomes(machine: Node, name: str, sort: str = "container") -> dict[str, bool] | None:
    """Which containers of a sort the kubelet refused, once it has decided about each."""
    asked = machine.plane.kubectl("get", "pod", name, "-o", "json").require()
    result = {}
    for status in json.loads(asked.stdout)["status"].get(f"{sort}Statuses", []):
        state = status["state"]
        if "running" in state:
            result[status["name"]] = False
        elif state.get("waiting", {}).get("reason") == REFUSED:
            result[status["name"]] = True
        else:
            return None
    return result or None


def test_the_kubelet_does_what_was_said(machine: Node) -> None:
    kubectl, compared = machine.plane.kubectl, 0
    for value in pods():
        hardened, verdict = judged(value)
        name = value["metadata"]["name"]
        kubectl("create", "-f", "-", stdin=json.dumps(hardened)).require()
        found = eventually(partial(outcomes, machine, name), name, 60)
        assert found == predicted(hardened, verdict), name
        compared += len(found)
        kubectl("delete", "pod", name, "--force", "--grace-period=0").require()
    assert compared == 2 * len(USERS) * len(SAID)


def test_init_containers_are_held_alike(machine: Node) -> None:
    kubectl = machine.plane.kubectl
    for index, (image, user) in enumerate(IMAGES.items()):
        value = pod(f"init-{index}", [container("app", "localhost/user:4", {})])
        value["spec"]["initContainers"] = [container("setup", image, {})]
        hardened, verdict = judged(value)
        name = value["metadata"]["name"]
        kubectl("create", "-f", "-", stdin=json.dumps(hardened)).require()
        found = eventually(partial(outcomes, machine, name, "initContainer"), name, 60)
        assert found == {"setup": bool(verdict.violations)}, user
        kubectl("delete", "pod", name, "--force", "--grace-period=0").require()


def test_ephemeral_containers_are_held_alike(machine: Node) -> None:
    kubectl = machine.plane.kubectl
    target = pod("target", [container("app", "localhost/user:4", {})])
    target["spec"]["securityContext"] = {"runAsNonRoot": True}
    kubectl("create", "-f", "-", stdin=json.dumps(target)).require()
    eventually(partial(outcomes, machine, "target"), "target", 60)
    new = [container(f"e{index}", image, {}) for index, image in enumerate(IMAGES)]
    patch = json.dumps({"spec": {"ephemeralContainers": new}})
    kubectl("patch", "pod", "target", "--subresource=ephemeralcontainers", "-p", patch).require()
    target["spec"]["ephemeralContainers"] = new
    workload = read_object(target)
    assert workload is not None
    blamed = {v.finding.container for v in evaluate(workload, POLICY, FACTS).violations}
    found = eventually(lambda: _all(outcomes(machine, "target", "ephemeralContainer")), "all", 60)
    assert found == {each["name"]: each["name"] in blamed for each in new}
    kubectl("delete", "pod", "target", "--force", "--grace-period=0").require()


def _all(found: dict[str, bool] | None) -> dict[str, bool] | None:
    return found if found and len(found) == len(IMAGES) else None
