"""The main job on a real API server with its real controllers, seen through kubectl."""

from __future__ import annotations

from typing import Any

import pytest
from batten_e2e import Kubectl, Namespace, container, deployment, eventually, pod

from batten_webhooks.engine import evaluate
from batten_webhooks.policy import PRESETS
from batten_webhooks.verdict import acting
from batten_webhooks.workload import read_object

pytestmark = pytest.mark.cluster

DENIED = 'admission webhook "pods.validate.batten.dev" denied the request'
FAILED = 'failed calling webhook "pods.validate.batten.dev"'


ROOT = [container(securityContext={"runAsUser": 0})]


def assert_hardened(value: dict[str, Any]) -> None:
    """What the hardened preset asks for, read off the live object itself."""
    spec = value["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for entry in spec["containers"] + spec.get("initContainers", []):
        security = entry["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"]["drop"] == ["ALL"]
        assert "/tmp" in [mount["mountPath"] for mount in entry["volumeMounts"]]  # noqa: S108
    workload = read_object(value)
    assert workload is not None
    assert not acting(evaluate(workload, PRESETS["hardened"]).violations, "Deny")


def test_the_pods_of_a_deployment_come_out_hardened(namespace: Namespace) -> None:
    init = [container(name="setup")]
    namespace.apply(deployment("web", replicas=2, initContainers=init)).require()
    for value in namespace.pods(2, "app=web"):
        assert_hardened(value)
        assert value["spec"]["terminationGracePeriodSeconds"] == 60
        sleep = value["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]
        assert sleep == {"seconds": 15}
    template = namespace.get("deployment", "web")["spec"]["template"]["spec"]
    assert template["securityContext"] == {}
    assert template["terminationGracePeriodSeconds"] == 30


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "ReplicaSet"])
def test_other_controllers_pods(namespace: Namespace, kind: str) -> None:
    value = deployment("web")
    value["kind"] = kind
    if kind == "DaemonSet":
        del value["spec"]["replicas"]
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "e2e-node"}}
        namespace.apply(node).require()
    namespace.apply(value).require()
    assert_hardened(namespace.pods(1, "app=web")[0])


def test_a_job_and_a_cronjobs_job(namespace: Namespace) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [container()]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once"},
        "spec": {"template": template},
    }
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 4 1 1 *", "jobTemplate": {"spec": {"template": template}}},
    }
    namespace.apply(job, cron).require()
    namespace.kubectl("create", "job", "now", "--from=cronjob/nightly").require()
    for name in ("once", "now"):
        value = namespace.pods(1, f"job-name={name}")[0]
        assert_hardened(value)
        assert "lifecycle" not in value["spec"]["containers"][0]
        assert value["spec"]["terminationGracePeriodSeconds"] == 30


def test_hardened_pods_pass_pod_security_restricted(restricted_namespace: Namespace) -> None:
    restricted_namespace.apply(deployment("web"), pod("bare")).require()
    restricted_namespace.pods(2)


def test_reapplying_a_bare_pod_changes_nothing(namespace: Namespace) -> None:
    value = pod("bare", terminationGracePeriodSeconds=30)
    namespace.apply(value).require()
    before = namespace.get("pod", "bare")
    assert "pod/bare unchanged" in namespace.apply(value).require().stdout
    assert namespace.get("pod", "bare")["spec"] == before["spec"]


def test_debug_containers(namespace: Namespace) -> None:
    namespace.apply(pod("target")).require()
    debug = ["debug", "target", "--image=busybox:1.36", "--quiet", "--attach=false"]
    namespace.kubectl(*debug, "--container=fine", "--profile=restricted").require()
    added = namespace.get("pod", "target")["spec"]["ephemeralContainers"]
    assert [entry["name"] for entry in added] == ["fine"]
    assert added[0]["securityContext"]["readOnlyRootFilesystem"] is True

    refused = namespace.kubectl(*debug, "--container=root", "--profile=sysadmin")
    assert refused.code == 1
    assert 'container "root"' in refused.stderr
    assert "spec.ephemeralContainers[1].securityContext.privileged" in refused.stderr
    assert len(namespace.get("pod", "target")["spec"]["ephemeralContainers"]) == 1


def test_an_update_that_leaves_the_template_alone(
    namespace: Namespace, without_batten: Any
) -> None:
    """A Deployment from before the installation: scaled and labelled with a warning, not edited."""
    with without_batten():
        namespace.apply(deployment("old", replicas=0, containers=ROOT)).require()
    scaled = namespace.kubectl("scale", "deployment/old", "--replicas=1").require()
    assert "scaled" in scaled.stdout
    labelled = namespace.kubectl("label", "deployment/old", "team=a").require()
    assert "the Pod template is unchanged" in labelled.stderr
    edited = namespace.kubectl("set", "image", "deployment/old", "app=registry.example/a:2")
    assert edited.code == 1
    assert "run-as-non-root" in edited.stderr
    namespace.kubectl("delete", "deployment", "old").require()


def test_a_pod_whose_mutation_was_skipped_is_refused(
    namespace: Namespace, without_mutation: Any
) -> None:
    with without_mutation():
        refused = namespace.apply(pod("bare"))
    assert refused.code == 1
    assert DENIED in refused.stderr
    assert "read-only-root-filesystem" in refused.stderr
    namespace.apply(pod("bare")).require()


UNDO_POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: undo}
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    namespaceSelector: {matchLabels: {undo: "true"}}
    resourceRules:
      - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  mutations:
    - patchType: JSONPatch
      jsonPatch:
        expression: >-
          has(object.spec.containers[0].securityContext)
          && has(object.spec.containers[0].securityContext.readOnlyRootFilesystem)
          ? [JSONPatch{op: "replace", value: false,
          path: "/spec/containers/0/securityContext/readOnlyRootFilesystem"}]
          : []
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: undo}
spec: {policyName: undo}
"""


def test_a_pod_whose_mutation_was_undone_is_refused(namespace: Namespace) -> None:
    """Another mutator, reinvoked after ours, sets the field back: ours keeps it and refuses."""
    if namespace.run("get", "mutatingadmissionpolicies").code:
        pytest.skip("MutatingAdmissionPolicies are served from Kubernetes 1.36 on")
    namespace.run("apply", "-f", "-", stdin=UNDO_POLICY).require()
    try:
        namespace.run("label", "namespace", namespace.name, "undo=true").require()

        def undone() -> str | None:
            output = namespace.apply(pod("bare"))
            namespace.kubectl("delete", "pod", "bare", "--ignore-not-found", "--wait=false")
            return output.stderr if output.code else None

        message = eventually(undone, "the other mutator takes effect")
        assert DENIED in message
        assert "readOnlyRootFilesystem is set to false" in message
    finally:
        namespace.run("delete", "-f", "-", stdin=UNDO_POLICY).require()


def test_a_pod_that_a_later_edit_makes_unsafe(namespace: Namespace) -> None:
    """Of a Pod only its image can be edited: `latest` is refused, and named."""
    namespace.apply(pod("bare")).require()
    edited = namespace.kubectl("set", "image", "pod/bare", "app=registry.example/team/app:latest")
    assert edited.code == 1
    assert "no-latest-tag" in edited.stderr
    namespace.kubectl("set", "image", "pod/bare", "app=registry.example/team/app:2").require()


def test_kube_system_is_left_alone(kubectl: Kubectl) -> None:
    created = kubectl(
        "-n", "kube-system", "run", "plain", "--image=nginx", "--dry-run=server", "-o", "json"
    )
    assert created.code == 0
    assert "readOnlyRootFilesystem" not in created.stdout


def test_audit_annotations_name_every_change(namespace: Namespace, audit_log: Any) -> None:
    namespace.apply(pod("bare")).require()
    event = eventually(
        lambda: audit_log(namespace.name, "pods", "create"), "the audit event of the Pod"
    )
    changes = event["annotations"]["mutate.batten.dev/changes"]
    for rule in ("run-as-non-root", "read-only-root-filesystem", "drop-capabilities"):
        assert rule in changes
    assert (
        event["annotations"]["mutate.batten.dev/policy"] == 'preset "hardened" (no policy matches)'
    )


def test_the_operator_killed_and_started_again(namespace: Namespace, operator: Any) -> None:
    """While it is away Pods are held and Deployments stay editable; then all is as before."""
    operator.kill()
    try:
        held = namespace.apply(pod("bare"))
        assert held.code == 1
        assert FAILED in held.stderr
        namespace.apply(deployment("web")).require()
    finally:
        operator.start()
    namespace.apply(pod("bare")).require()
    assert_hardened(namespace.get("pod", "bare"))
    for value in namespace.pods(1, "app=web"):
        assert_hardened(value)
