"""What is decided of a Pod while its registry is away, slow, wrong, or asks who wants to know."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from batten_e2e import Kubectl, Namespace, eventually, pod
from batten_pinning import images, pins, workload
from batten_registry import Registry, docker_config

pytestmark = pytest.mark.cluster

# What is said of an image at each.
SAID = {
    "missing": "there is no such tag, or not for these credentials",
    "limited": "is asked too often (429)",
    "broken": "answers 500",
    "truncated": "the connection broke",
    "digest": "'sha256:0' is no digest",
    "huge": "the registry sent more than 4194304 bytes",
    "redirect": "unless listed",
    "slow": "the registry has not answered in 3 s",
    "stopped": "cannot be reached",
}


def of_image(image: str, name: str = "web", **spec: Any) -> dict[str, Any]:
    return pod(name, containers=[{"name": "app", "image": image}], **spec)


@contextmanager
def governed(namespace: Namespace, kubectl: Kubectl, **pinned: Any) -> Iterator[None]:
    """By a policy that says this of pinned-digest, once it is in force."""
    named = {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}
    policy = {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningPolicy",
        "metadata": {"name": namespace.name},
        "spec": {
            "priority": 7,
            "match": {"namespaceSelector": named},
            "rules": {"pinned-digest": {**pinned, "forbid": ["forbidden.example/*"]}},
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(policy)).require()
    probe = json.dumps(of_image("forbidden.example/app:1"))

    def in_force() -> bool | None:
        asked = namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=probe)
        return True if "of those that are forbidden" in asked.stderr else None

    eventually(in_force, "the policy governs")
    yield
    kubectl("delete", "hardeningpolicy", namespace.name).require()


def secret(registry: Registry, name: str = "regcred") -> dict[str, Any]:
    data = base64.b64encode(docker_config(registry.host)).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": data},
    }


@pytest.mark.parametrize("how", SAID)
def test_by_default_a_pod_keeps_its_tag_and_its_author_is_told(
    namespace: Namespace, wrong: dict[str, str], how: str
) -> None:
    image = f"{wrong[how]}/team/app:1"
    applied = namespace.apply(of_image(image)).require()
    assert f'Pod "web": pinned-digest: container "app": image {image} is not pinned' in (
        applied.stderr
    )
    assert SAID[how] in applied.stderr
    assert images(namespace) == {image}


def test_a_policy_refuses_what_is_not_pinned_and_says_why(
    namespace: Namespace, kubectl: Kubectl, wrong: dict[str, str]
) -> None:
    with governed(namespace, kubectl, validationActions=["Deny"]):
        for how, said in SAID.items():
            image = f"{wrong[how]}/team/other:1"
            refused = namespace.apply(of_image(image))
            assert refused.code == 1
            assert 'webhook "pods.validate.batten.dev" denied the request' in refused.stderr
            assert f'pinned-digest: container "app": image {image} is not pinned' in refused.stderr
            assert said in refused.stderr or "is left alone for" in refused.stderr
            template = namespace.apply(workload("Deployment", image, how)).require()
            assert f'Deployment "{how}": pinned-digest' in template.stderr
            assert "denied" not in template.stderr


def test_a_revision_waits_for_its_registry(
    namespace: Namespace, kubectl: Kubectl, plain: Registry
) -> None:
    """Nothing of it runs until its tag is there; then it gets in by itself."""
    image = f"{plain.host}/{namespace.name}:late"
    with governed(namespace, kubectl, validationActions=["Deny"]):
        namespace.apply(workload("Deployment", image)).require()

        def refused() -> bool | None:
            text = json.dumps(namespace.get("events")["items"])
            told = "has no digest for it yet, see its events" in text
            return True if told and "there is no such tag" in text else None

        eventually(refused, "the Pod is refused, and the ReplicaSet's events say why", 60)
        assert namespace.get("pods")["items"] == []
        digest = plain.push(namespace.name, "late", User="1000").digest

        def pinned() -> bool | None:
            (found,) = namespace.get("replicasets")["items"]
            return True if list(pins(found).values()) == [{image: digest}] else None

        eventually(pinned, "the controller asks again", 120)


@pytest.mark.parametrize("by", ["Pod", "ServiceAccount"])
@pytest.mark.parametrize("access", ["guarded", "tokens"])
def test_the_kubelets_pull_secrets_are_enough(
    request: pytest.FixtureRequest, namespace: Namespace, access: str, by: str
) -> None:
    registry: Registry = request.getfixturevalue(access)
    image = f"{registry.host}/{namespace.name}:1"
    digest = registry.push(namespace.name, "1", User="1000").digest
    namespace.apply(secret(registry)).require()
    value = workload("Deployment", image)
    if by == "ServiceAccount":
        named = '{"imagePullSecrets": [{"name": "regcred"}]}'
        namespace.kubectl("patch", "serviceaccount", "default", "-p", named).require()
    else:
        value["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "regcred"}]
    namespace.apply(value).require()
    assert images(namespace) == {f"{image}@{digest}"}


def test_without_a_pull_secret_a_private_image_is_not_pinned(
    namespace: Namespace, guarded: Registry
) -> None:
    image = f"{guarded.host}/{namespace.name}:1"
    guarded.push(namespace.name, "1", User="1000")
    applied = namespace.apply(workload("Deployment", image)).require()
    assert "is not pinned" in applied.stderr
    assert images(namespace) == {image}
    (found,) = namespace.get("replicasets")["items"]
    assert pins(found) == {}


def test_a_policy_names_pull_secrets(
    namespace: Namespace, kubectl: Kubectl, guarded: Registry
) -> None:
    image = f"{guarded.host}/{namespace.name}:1"
    digest = guarded.push(namespace.name, "1", User="1000").digest
    namespace.apply(secret(guarded)).require()
    with governed(namespace, kubectl, imagePullSecrets=["regcred"]):
        namespace.apply(workload("Deployment", image)).require()
        (found,) = namespace.pods(1)
    assert found["spec"]["containers"][0]["image"] == f"{image}@{digest}"
    assert found["spec"]["imagePullSecrets"] == [{"name": "regcred"}]
    (live,) = namespace.get("deployments")["items"]
    assert "imagePullSecrets" not in live["spec"]["template"]["spec"]


def test_what_an_image_says_decides_before_its_container_would_fail(
    namespace: Namespace, plain: Registry
) -> None:
    """Without it the Pod would be let in, and end in CreateContainerConfigError."""
    told = {"": "USER is empty", "0:0": "USER is 0", "app": "names its user app"}
    for tag, user in (("root", ""), ("zero", "0:0"), ("named", "app"), ("fine", "1000:1000")):
        image = f"{plain.host}/{namespace.name}:{tag}"
        plain.push(namespace.name, tag, User=user, Labels={"tag": tag})
        for value in (of_image(image, tag), workload("Deployment", image, tag)):
            applied = namespace.apply(value)
            assert "is not known" not in applied.stderr
            assert applied.code == (1 if user in told else 0)
            assert told.get(user, "") in applied.stderr


def test_what_an_image_says_is_advice(namespace: Namespace, plain: Registry) -> None:
    image = f"{plain.host}/{namespace.name}:1"
    plain.push(
        namespace.name,
        "1",
        platforms=("s390x",),
        User="1000",
        Volumes={"/data": {}},
        ExposedPorts={"80/tcp": {}},
        Cmd=["/bin/sh", "-c", "serve"],
        Healthcheck={"Test": ["CMD", "serve", "--check"]},
    )
    ports = [{"containerPort": 80}]
    containers = [{"name": "app", "image": image, "ports": ports}]
    warned = namespace.apply(pod(containers=containers)).require().stderr
    for words in (
        "nothing is mounted at /data, a VOLUME of its image",
        f"image {image}@sha256:",
        "serves 80/tcp, which is for root",
        "is for s390x, and nodes are amd64 or arm64",
        "passes on no SIGTERM",
        'such as exec: {command: ["serve", "--check"]}',
    ):
        assert words in warned


def test_a_cluster_knows_its_own_images(
    namespace: Namespace, kubectl: Kubectl, plain: Registry
) -> None:
    image = f"{plain.host}/{namespace.name}:1"
    plain.push(namespace.name, "1", User="app")
    assert namespace.apply(workload("Deployment", image)).code == 1
    profile: dict[str, Any] = {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "ImageProfile",
        "metadata": {"name": namespace.name},
        "spec": {"images": [f"{plain.host}/{namespace.name}"], "runAsUser": 0, "runAsGroup": 7},
    }
    wrong = json.dumps(profile)
    refused = kubectl("apply", "-f", "-", stdin=wrong)
    assert (refused.code, "spec.runAsUser" in refused.stderr) == (1, True)
    profile["spec"] |= {"runAsUser": 10001, "writablePaths": ["/var/cache/app", "/../etc"]}
    refused = kubectl("apply", "-f", "-", stdin=json.dumps(profile))
    assert "spec.writablePaths[1]: must be an absolute path" in refused.stderr
    profile["spec"]["writablePaths"] = ["/var/cache/app"]
    kubectl("apply", "-f", "-", stdin=json.dumps(profile)).require()
    eventually(
        lambda: True if namespace.apply(workload("Deployment", image)).code == 0 else None,
        "the profile is known",
    )
    (found,) = namespace.pods(1)
    (made,) = found["spec"]["containers"]
    assert made["securityContext"]["runAsUser"] == 10001
    assert made["securityContext"]["runAsGroup"] == 7
    assert "/var/cache/app" in [mount["mountPath"] for mount in made["volumeMounts"]]
    kubectl("delete", "imageprofile", namespace.name).require()
