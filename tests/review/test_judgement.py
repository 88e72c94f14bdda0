"""What is judged of updates, subresources, owned objects and mirror Pods; what is said of it."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonpatch
import pytest
from batten_reviews import answered, container, deployment, hardened, patch_of, pod, review

GOOD = hardened(pod())
PRIVILEGED = container("debug", securityContext={"privileged": True})
MIRROR = {"kubernetes.io/config.mirror": "5d41402abc4b2a76b9719d911017c592"}
RULE = "no-privileged"


def with_spec(value: Any, **spec: Any) -> Any:
    return {**value, "spec": {**value["spec"], **spec}}


def with_metadata(value: Any, **metadata: Any) -> Any:
    return {**value, "metadata": {**value["metadata"], **metadata}}


def rules(response: Any) -> set[str]:
    causes = response.get("status", {}).get("details", {}).get("causes", [])
    return {cause["message"].partition(":")[0] for cause in causes}


# --- updates of Pods ----------------------------------------------------------------------------


def test_an_update_answers_for_what_it_brings() -> None:
    old = with_spec(GOOD, hostPID=True)
    same = answered("validate", review(old, old, operation="UPDATE"))
    assert same["allowed"]
    worse = with_spec(old, initContainers=[PRIVILEGED])
    response = answered("validate", review(worse, old, operation="UPDATE"))
    assert RULE in rules(response)
    assert "no-host-namespaces" not in rules(response)


def test_a_second_container_with_the_same_fault_is_new() -> None:
    old = with_spec(GOOD, initContainers=[PRIVILEGED])
    new = with_spec(old, initContainers=[PRIVILEGED, {**PRIVILEGED, "name": "other"}])
    response = answered("validate", review(new, old, operation="UPDATE"))
    causes = response["status"]["details"]["causes"]
    fields = {cause["field"] for cause in causes if cause["message"].startswith(RULE)}
    assert fields == {"spec.initContainers[1].securityContext.privileged"}


@pytest.mark.parametrize("subresource", ["resize", "status", "binding", "futuresubresource"])
def test_unknown_subresources_are_judged_as_updates(subresource: str) -> None:
    new = with_spec(GOOD, initContainers=[PRIVILEGED])
    sent = review(new, GOOD, operation="UPDATE", subresource=subresource)
    assert RULE in rules(answered("validate", sent))
    assert patch_of(answered("mutate", sent)) == []
    assert answered(
        "validate", review(new, new, operation="UPDATE", subresource=subresource)
    )["allowed"]  # fmt: skip


def test_a_pod_that_is_being_deleted_is_still_judged() -> None:
    """CVE-2023-34091 of a peer: such updates were let through unseen."""
    old = with_metadata(GOOD, deletionTimestamp="2026-01-01T00:00:00Z")
    new = with_spec(old, initContainers=[PRIVILEGED])
    assert RULE in rules(answered("validate", review(new, old, operation="UPDATE")))
    assert RULE in rules(answered("validate", review(new)))


# --- ephemeral containers -----------------------------------------------------------------------


def debugged(*names: str, **fields: Any) -> Any:
    return with_spec(GOOD, ephemeralContainers=[container(name, **fields) for name in names])


def test_only_new_ephemeral_containers_are_changed() -> None:
    sent = review(
        debugged("old", "new"),
        debugged("old"),
        operation="UPDATE",
        subresource="ephemeralcontainers",
    )
    patch = patch_of(answered("mutate", sent))
    assert patch
    assert all(o["path"].startswith("/spec/ephemeralContainers/1/") for o in patch)


def test_only_new_ephemeral_containers_are_judged() -> None:
    broken = with_spec(debugged("old", securityContext={"privileged": True}), hostPID=True)
    new = copy.deepcopy(broken)
    new["spec"]["ephemeralContainers"].append(PRIVILEGED)
    sent = review(new, broken, operation="UPDATE", subresource="ephemeralcontainers")
    response = answered("validate", sent)
    assert RULE in rules(response)
    assert "no-host-namespaces" not in rules(response)
    for cause in response["status"]["details"]["causes"]:
        assert cause["field"].startswith("spec.ephemeralContainers[1].")


def test_a_changed_ephemeral_container_is_accepted() -> None:
    new, old = debugged("debug"), GOOD
    sent = review(new, old, operation="UPDATE", subresource="ephemeralcontainers")
    assert not answered("validate", sent)["allowed"]
    changed = jsonpatch.apply_patch(new, patch_of(answered("mutate", sent)))
    again = review(changed, old, operation="UPDATE", subresource="ephemeralcontainers")
    assert answered("validate", again)["allowed"]
    assert patch_of(answered("mutate", again)) == []


# --- templates ----------------------------------------------------------------------------------


def test_a_template_is_judged_as_the_pods_it_becomes() -> None:
    assert answered("validate", review(deployment(pod())))["allowed"]
    response = answered("validate", review(deployment(pod(initContainers=[PRIVILEGED]))))
    field = "spec.template.spec.initContainers[0].securityContext.privileged"
    assert field in {cause["field"] for cause in response["status"]["details"]["causes"]}
    message = response["status"]["message"]
    assert message.startswith('Deployment "web" would create Pods that break')
    assert field in message


def test_an_unchanged_template_is_let_through_with_a_warning() -> None:
    """Scaling must work, also of what was there before the policy."""
    old = deployment(pod(initContainers=[PRIVILEGED]), replicas=1)
    new = deployment(pod(initContainers=[PRIVILEGED]), replicas=5)
    response = answered("validate", review(new, old, operation="UPDATE"))
    assert response["allowed"]
    assert "the Pod template is unchanged" in response["warnings"][0]
    assert any(RULE in warning for warning in response["warnings"])


def test_a_changed_template_is_judged_in_full() -> None:
    old = deployment(pod(initContainers=[PRIVILEGED]))
    new = deployment(pod(initContainers=[PRIVILEGED], priority=1))
    assert RULE in rules(answered("validate", review(new, old, operation="UPDATE")))


def test_objects_of_a_controller_are_left_to_their_owner() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "controller": True}
    value = deployment(pod(initContainers=[PRIVILEGED]))
    value["kind"] = "ReplicaSet"
    owned = with_metadata(value, ownerReferences=[owner])
    assert answered("validate", review(owned))["allowed"]
    not_controlled = with_metadata(value, ownerReferences=[{**owner, "controller": False}])
    assert not answered("validate", review(not_controlled))["allowed"]


def test_a_controllers_pods_are_judged_all_the_same() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "controller": True}
    value = with_metadata(with_spec(GOOD, initContainers=[PRIVILEGED]), ownerReferences=[owner])
    assert not answered("validate", review(value))["allowed"]


# --- mirror Pods --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotations", "groups", "mirror"),
    [
        (MIRROR, ("system:nodes", "system:authenticated"), True),
        (MIRROR, ("system:authenticated",), False),
        (MIRROR, ("system:serviceaccounts",), False),
        ({}, ("system:nodes",), False),
    ],
)
def test_mirror_pods_are_the_nodes_own(
    annotations: dict[str, str], groups: tuple[str, ...], mirror: bool
) -> None:
    """A static Pod runs already; anybody else can set the annotation too."""
    value = with_metadata(pod(initContainers=[PRIVILEGED]), annotations=annotations)
    sent = review(value, groups=groups)
    assert answered("validate", sent)["allowed"] is mirror
    assert bool(patch_of(answered("mutate", sent))) is not mirror


# --- what is said -------------------------------------------------------------------------------


def test_every_violation_is_a_cause_with_its_field() -> None:
    value = with_spec(GOOD, hostNetwork=True, initContainers=[PRIVILEGED])
    response = answered("validate", review(value))
    causes = response["status"]["details"]["causes"]
    fields = {cause["field"] for cause in causes}
    assert "spec.hostNetwork" in fields
    assert "spec.initContainers[0].securityContext.privileged" in fields
    message = response["status"]["message"]
    for cause in causes:
        assert cause["field"] in message
    details = response["status"]["details"]
    assert (details["name"], details["group"], details["kind"]) == ("web", "", "Pod")


def test_audit_annotations_name_every_violation_and_change() -> None:
    response = answered("validate", review(pod(hostPID=True, initContainers=[PRIVILEGED])))
    told = json.loads(response["auditAnnotations"]["violations"])
    assert {(row["rule"], row["path"]) for row in told} >= {
        (RULE, "/spec/initContainers/0/securityContext/privileged"),
        ("no-host-namespaces", "/spec/hostPID"),
    }
    assert all(row.keys() == {"rule", "container", "path", "detail", "actions"} for row in told)
    assert response["auditAnnotations"]["policy"] == 'preset "hardened" (no policy matches)'

    response = answered("mutate", review(pod()))
    told = json.loads(response["auditAnnotations"]["changes"])
    paths = {row["path"] for row in told}
    for operation in patch_of(response):
        assert any(path.startswith(operation["path"]) for path in paths), operation


def test_warnings_are_few_short_and_told_once() -> None:
    """kubectl shows 256 characters of one, API servers pass on 4096 of all."""
    names = [f"c{number}-{'x' * 200}" for number in range(300)]
    value = with_spec(GOOD, containers=[container(name) for name in (*names, *names)])
    response = answered("validate", review(value))
    warnings = response["warnings"]
    assert len(warnings) > 5
    assert "more warnings" in warnings[-1]


def test_a_denial_of_very_many_violations_stays_readable() -> None:
    value = with_spec(GOOD, initContainers=[{**PRIVILEGED, "name": f"c{n}"} for n in range(500)])
    message = answered("validate", review(value))["status"]["message"]
    assert len(message) < 20_000
    assert "more" in message
