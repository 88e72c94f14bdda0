"""Ways around an admission controller that others have left open, each tried on a real API server.

docs/security-model.md says what each of them is; what is tried elsewhere is named there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from batten_e2e import Kubectl, Namespace, Output, container, eventually, pod

pytestmark = pytest.mark.cluster

DENIED = "denied the request"
PRIVILEGED: dict[str, Any] = {"securityContext": {"privileged": True}}


def created(namespace: Namespace, value: dict[str, Any]) -> Output:
    return namespace.kubectl("create", "-f", "-", stdin=json.dumps(value))


def refused(namespace: Namespace, value: dict[str, Any], rule: str) -> None:
    done = created(namespace, value)
    assert done.code, done
    assert DENIED in done.stderr
    assert rule in done.stderr


def update(namespace: Namespace, name: str, subresource: str, value: dict[str, Any]) -> Output:
    """Whatever a kubelet has written of it meanwhile."""
    del value["metadata"]["resourceVersion"]
    path = f"/api/v1/namespaces/{namespace.name}/pods/{name}/{subresource}"
    return namespace.run("replace", "--raw", path, "-f", "-", stdin=json.dumps(value))


# --- containers of every sort --------------------------------------------------------------------

SORTS: dict[str, dict[str, Any]] = {
    "container": {"containers": [container(**PRIVILEGED)]},
    "second container": {"containers": [container(), container("two", **PRIVILEGED)]},
    "init container": {"initContainers": [container("setup", **PRIVILEGED)]},
    "native sidecar": {
        "initContainers": [container("proxy", restartPolicy="Always", **PRIVILEGED)]
    },
}


@pytest.mark.parametrize("sort", SORTS)
def test_containers_of_every_sort(namespace: Namespace, sort: str) -> None:
    refused(namespace, pod(**SORTS[sort]), "no-privileged")


def test_ephemeral_containers(namespace: Namespace) -> None:
    created(namespace, pod()).require()
    value = namespace.get("pod", "web")
    value["spec"]["ephemeralContainers"] = [container("debug", **PRIVILEGED)]
    done = update(namespace, "web", "ephemeralcontainers", value)
    assert DENIED in done.stderr
    assert "no-privileged" in done.stderr


def test_resize_is_judged(
    namespace: Namespace, audit_log: Callable[[str, str, str], dict[str, Any] | None]
) -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    created(namespace, pod(containers=[container(resources=resources)])).require()
    value = namespace.get("pod", "web")
    value["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "150m"
    update(namespace, "web", "resize", value).require()
    event = eventually(
        lambda: audit_log(namespace.name, "pods", "update"), "the audit event of the resize"
    )
    assert event["objectRef"]["subresource"] == "resize"
    assert "pods.validate.batten.dev/policy" in event["annotations"]


def test_images_of_volumes(namespace: Namespace) -> None:
    version = json.loads(namespace.run("get", "--raw", "/version").require().stdout)
    if int(version["minor"].rstrip("+")) < 35:
        pytest.skip("API servers drop image volumes before Kubernetes 1.35")
    volume = {"name": "model", "image": {"reference": "registry.example/models/large"}}
    mount = {"name": "model", "mountPath": "/model"}
    value = pod(containers=[container(volumeMounts=[mount])], volumes=[volume])
    refused(namespace, value, "no-latest-tag")


# --- templates, and those who claim to be somebody's ---------------------------------------------


def template(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": pod(**spec)["spec"]}


def job(**fields: Any) -> dict[str, Any]:
    never = template(restartPolicy="Never", containers=[container(**PRIVILEGED)])
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "web", **fields},
        "spec": {"template": never},
    }


def test_templates_in_templates(namespace: Namespace) -> None:
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "web"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": job()["spec"]}},
    }
    refused(namespace, cron, "spec.jobTemplate.spec.template.spec.containers[0]")
    bare = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "web"},
        "template": template(containers=[container(**PRIVILEGED)]),
    }
    refused(namespace, bare, "template.spec.containers[0].securityContext.privileged")


@pytest.fixture
def rollouts(kubectl: Kubectl) -> Iterator[None]:
    """Stands for Argo Rollouts: its kind, without its controller."""
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "rollouts.argoproj.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {
            "group": "argoproj.io",
            "scope": "Namespaced",
            "names": {"kind": "Rollout", "plural": "rollouts", "singular": "rollout"},
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
    }
    text = yaml.safe_dump(definition)
    kubectl("apply", "-f", "-", stdin=text).require()
    kubectl("wait", "--for=condition=Established", "crd/rollouts.argoproj.io").require()
    yield
    kubectl("delete", "-f", "-", stdin=text).require()


@pytest.mark.usefixtures("rollouts")
def test_templates_of_custom_kinds(namespace: Namespace) -> None:
    rollout = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "web"},
        "spec": {"template": template(containers=[container(**PRIVILEGED)])},
    }
    refused(namespace, rollout, "no-privileged")


def test_who_claims_a_controller_gains_nothing(namespace: Namespace) -> None:
    """An object that a controller owns is not judged, for its owner was; but its Pods are."""
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": "none",
        "uid": "0",
        "controller": True,
    }
    created(namespace, job(ownerReferences=[owner]))
    claimed = pod(containers=[container(**PRIVILEGED)])
    claimed["metadata"]["ownerReferences"] = [{**owner, "kind": "Job"}]
    refused(namespace, claimed, "no-privileged")
    assert namespace.get("pods")["items"] == []


def test_a_mirror_pods_annotation_says_nothing(namespace: Namespace) -> None:
    value = pod(containers=[container(**PRIVILEGED)])
    value["metadata"]["annotations"] = {
        "kubernetes.io/config.mirror": "0123456789abcdef",
        "kubernetes.io/config.source": "file",
    }
    done = created(namespace, value)
    assert done.code
    assert namespace.get("pods")["items"] == []


# --- fields that contradict each other -----------------------------------------------------------

CONTRARY: dict[str, tuple[dict[str, Any], str]] = {
    "the container over the Pod": (
        {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
            "containers": [container(securityContext={"runAsUser": 0, "runAsNonRoot": False})],
        },
        "run-as-non-root",
    ),
    "a list with ALL and more": (
        {
            "containers": [
                container(securityContext={"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}})
            ]
        },
        "drop-capabilities",
    ),
    "hostProcess": (
        {
            "os": {"name": "windows"},
            "hostNetwork": True,
            "securityContext": {"windowsOptions": {"hostProcess": True}},
        },
        "no-host-process",
    ),
    "procMount": (
        {"hostUsers": False, "containers": [container(securityContext={"procMount": "Unmasked"})]},
        "masked-proc-mount",
    ),
    "sysctls": (
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        "safe-sysctls",
    ),
    "a path of the node": (
        {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]},
        "safe-volume-types",
    ),
    "the node's network": ({"hostNetwork": True}, "no-host-namespaces"),
}


@pytest.mark.parametrize("case", CONTRARY)
def test_what_contradicts(namespace: Namespace, case: str) -> None:
    spec, rule = CONTRARY[case]
    refused(namespace, pod(**spec), rule)


@pytest.mark.parametrize("said", [None, {}, {"capabilities": None}, {"capabilities": {"drop": []}}])
def test_null_and_empty_are_as_if_nothing_was_said(namespace: Namespace, said: Any) -> None:
    created(namespace, pod(containers=[container(securityContext=said)])).require()
    security = namespace.get("pod", "web")["spec"]["containers"][0]["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"]


def test_a_large_pod_is_judged_to_its_end(namespace: Namespace) -> None:
    env = [{"name": f"VARIABLE_{number}", "value": "x" * 1_000} for number in range(900)]
    many = [container(f"many-{number}") for number in range(50)]
    value = pod(containers=[container(env=env), *many, container("last", **PRIVILEGED)])
    refused(namespace, value, 'container "last"')


# --- updates -------------------------------------------------------------------------------------


def test_a_pod_that_is_being_deleted_is_still_judged(namespace: Namespace) -> None:
    value = pod()
    value["metadata"]["finalizers"] = ["example.com/held"]
    created(namespace, value).require()
    namespace.kubectl("delete", "pod", "web", "--wait=false").require()
    changed = namespace.kubectl("set", "image", "pod/web", "app=registry.example/team/app:latest")
    assert DENIED in changed.stderr
    # Finalizers go all the same.
    free = json.dumps([{"op": "remove", "path": "/metadata/finalizers"}])
    namespace.kubectl("patch", "pod", "web", "--type=json", "-p", free).require()


def test_a_status_is_nobodys_business(namespace: Namespace) -> None:
    created(namespace, pod()).require()
    fine = json.dumps({"status": {"message": "fine"}})
    patch = ("patch", "pod", "web", "--subresource=status", "--type=merge", "-p", fine)
    namespace.kubectl(*patch).require()


@pytest.mark.parametrize("how", ["json", "merge", "strategic"])
def test_every_sort_of_patch(namespace: Namespace, how: str) -> None:
    created(namespace, pod()).require()
    latest = "registry.example/team/app:latest"
    patch: Any = {"spec": {"containers": [{"name": "app", "image": latest}]}}
    if how == "json":
        patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": latest}]
    elif how == "merge":
        containers = namespace.get("pod", "web")["spec"]["containers"]
        patch = {"spec": {"containers": [{**containers[0], "image": latest}]}}
    done = namespace.kubectl("patch", "pod", "web", f"--type={how}", "-p", json.dumps(patch))
    assert DENIED in done.stderr


# --- exceptions reach no further than they say ---------------------------------------------------


@pytest.fixture
def exception(kubectl: Kubectl, namespace: Namespace) -> Iterator[str]:
    """For the images of one team, in one namespace."""
    expires = (datetime.now(UTC) + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    value = {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningException",
        "metadata": {"name": namespace.name},
        "spec": {
            "match": {"namespaces": [namespace.name], "images": ["registry.example/team/*"]},
            "rules": ["no-privileged", "no-privilege-escalation"],
            "reason": "a test",
            "expires": expires,
        },
    }
    text = json.dumps(value)
    kubectl("apply", "-f", "-", stdin=text).require()
    held = pod("held", containers=[container(**PRIVILEGED)])
    dry = ("create", "--dry-run=server", "-f", "-")
    eventually(
        lambda: True if namespace.kubectl(*dry, stdin=json.dumps(held)).code == 0 else None,
        "the exception holds",
        5,
    )
    yield namespace.name
    kubectl("delete", "-f", "-", stdin=text).require()


@pytest.mark.parametrize(
    "image",
    [
        "registry.example/team-evil/app:1.4.2",
        "registry.example/teams/app:1.4.2",
        "registry.example.evil.example/team/app:1.4.2",
        "registry.example:5000/team/app:1.4.2",
        "team/app:1.4.2",
        "evil.example/registry.example/team/app:1.4.2",
        "registry.example/team:1.4.2",
    ],
)
def test_an_exceptions_images_are_no_prefixes(
    namespace: Namespace, exception: str, image: str
) -> None:
    assert exception == namespace.name
    value = pod(containers=[{"name": "app", "image": image, **PRIVILEGED}])
    refused(namespace, value, "no-privileged")


def test_an_exception_holds_in_the_namespaces_it_names(exception: str, kubectl: Kubectl) -> None:
    assert exception
    elsewhere = Namespace("default", kubectl)
    refused(elsewhere, pod("elsewhere", containers=[container(**PRIVILEGED)]), "no-privileged")
