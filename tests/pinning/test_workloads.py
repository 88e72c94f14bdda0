"""Every kind of workload gets its digests on its revisions, and its Pods get them from there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batten_e2e import Kubectl, Namespace, eventually, pod
from batten_install import Installation, webhooks_removed
from batten_pinning import image_of, images, pins, workload
from batten_registry import Registry

from batten_webhooks.revision import PREFIX

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    ("kind", "revision"),
    [
        ("ReplicaSet", "replicasets"),
        ("Deployment", "replicasets"),
        ("StatefulSet", "controllerrevisions"),
        ("Job", "jobs"),
    ],
)
def test_pods_run_what_their_revision_names(
    namespace: Namespace, plain: Registry, kind: str, revision: str
) -> None:
    image = f"{plain.host}/{namespace.name}:1"
    first = plain.push(namespace.name, "1", User="1000").digest
    many: dict[str, Any] = {"parallelism": 2} if kind == "Job" else {"replicas": 2}
    applied = namespace.apply(workload(kind, image, **many)).require()
    assert "pinned" not in applied.stderr
    assert images(namespace, 2) == {f"{image}@{first}"}
    (found,) = namespace.get(revision)["items"]
    assert list(pins(found).values()) == [{image: first}]
    plain.push(namespace.name, "1", User="1001")
    namespace.kubectl("delete", "pods", "--all", "--force", "--grace-period=0").require()
    assert images(namespace, 2) == {f"{image}@{first}"}
    (live,) = namespace.get(f"{kind.lower()}s")["items"]
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_pods_of_a_daemon_set(namespace: Namespace, kubectl: Kubectl, plain: Registry) -> None:
    """No kubelet is needed for Pods to be made."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace.name}}
    namespace.apply(node).require()
    image = f"{plain.host}/{namespace.name}:1"
    first = plain.push(namespace.name, "1", User="1000").digest
    namespace.apply(workload("DaemonSet", image)).require()
    assert images(namespace) == {f"{image}@{first}"}
    (found,) = namespace.get("controllerrevisions")["items"]
    assert list(pins(found).values()) == [{image: first}]
    plain.push(namespace.name, "1", User="1001")
    namespace.kubectl("delete", "pods", "--all", "--force", "--grace-period=0").require()
    assert images(namespace) == {f"{image}@{first}"}
    kubectl("delete", "node", namespace.name).require()


def test_each_job_of_a_cron_job_is_a_revision(namespace: Namespace, plain: Registry) -> None:
    image = f"{plain.host}/{namespace.name}:1"
    template = {"spec": workload("Job", image)["spec"]}
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}}
    plain.push(namespace.name, "1", User="1000")
    namespace.apply(cron | {"spec": {"schedule": "0 3 * * *", "jobTemplate": template}}).require()
    for name in ("one", "two"):
        namespace.kubectl("create", "job", name, "--from=cronjob/nightly").require()
        plain.push(namespace.name, "1", User=name)
    jobs = {each["metadata"]["name"]: pins(each) for each in namespace.get("jobs")["items"]}
    for found in namespace.pods(2):
        owner = found["metadata"]["labels"]["batch.kubernetes.io/job-name"]
        (pinned,) = jobs[owner].values()
        assert image_of(found) == f"{image}@{pinned[image]}"


def eventually_images(namespace: Namespace, expected: set[str]) -> None:
    eventually(lambda: True if images(namespace) == expected else None, f"{expected}")


def test_undo_then_set_image_then_scale(namespace: Namespace, plain: Registry) -> None:
    """Annotations are copied between ReplicaSets and Deployments; digests are not."""
    one, two, three = (f"{plain.host}/{namespace.name}:{tag}" for tag in "123")
    digests = {
        image: plain.push(namespace.name, image[-1], User=f"100{image[-1]}").digest
        for image in (one, two, three)
    }
    namespace.apply(workload("Deployment", one)).require()
    images(namespace)
    for step in (
        ("set", "image", "deployment/web", f"app={two}"),
        ("rollout", "undo", "deployment/web"),
        ("set", "image", "deployment/web", f"app={three}"),
        ("scale", "deployment/web", "--replicas=3"),
    ):
        plain.push(namespace.name, "1", User="2000")
        namespace.kubectl(*step).require()
        (live,) = namespace.get("deployments")["items"]
        assert pins(live) == {}

    def settled() -> bool | None:
        found = namespace.get("replicasets")["items"]
        return True if len(found) == 3 and all(map(pins, found)) else None

    eventually(settled, "three ReplicaSets with digests")
    for found in namespace.get("replicasets")["items"]:
        text = image_of(found["spec"]["template"])
        label = found["metadata"]["labels"]["pod-template-hash"]
        assert pins(found) == {f"{PREFIX}{label}": {text: digests[text]}}
    namespace.kubectl("rollout", "undo", "deployment/web", "--to-revision=2").require()
    assert all(
        each.partition("@")[2] == digests[each.partition("@")[0]] for each in images(namespace)
    )


def test_what_a_user_writes_is_replaced_and_what_he_changes_is_restored(
    namespace: Namespace, plain: Registry
) -> None:
    image = f"{plain.host}/{namespace.name}:1"
    digest = plain.push(namespace.name, "1", User="1000").digest
    forged = {
        f"{PREFIX}{name}": f'{{"{image}": "sha256:{"0" * 64}"}}' for name in ("revision", "x")
    }
    value = workload("ReplicaSet", image, replicas=1)
    value["metadata"]["annotations"] = {**forged, "team": "shop"}
    namespace.apply(value).require()
    right = {f"{PREFIX}revision": {image: digest}}
    for changed in (f"{PREFIX}revision={forged[f'{PREFIX}x']}", f"{PREFIX}revision-", "team=other"):
        (live,) = namespace.get("replicasets")["items"]
        assert pins(live) == right
        namespace.kubectl("annotate", "--overwrite", "replicaset/web", changed).require()
    (live,) = namespace.get("replicasets")["items"]
    assert pins(live) == right
    assert live["metadata"]["annotations"]["team"] == "other"
    plain.push(namespace.name, "1", User="1001")
    namespace.kubectl("label", "replicaset/web", "pod-template-hash=x").require()
    (live,) = namespace.get("replicasets")["items"]
    assert pins(live) == {**right, f"{PREFIX}x": {image: digest}}
    namespace.kubectl("scale", "replicaset/web", "--replicas=2").require()
    assert images(namespace, 2) == {f"{image}@{digest}"}


def test_a_bare_pod_keeps_its_digest_when_it_is_applied_again(
    namespace: Namespace, plain: Registry
) -> None:
    image, other = (f"{plain.host}/{namespace.name}:{tag}" for tag in "12")
    first = plain.push(namespace.name, "1", User="1000").digest
    second = plain.push(namespace.name, "2", User="1000", Labels={"version": "2"}).digest
    value = pod(containers=[{"name": "app", "image": image}])
    namespace.apply(value).require()
    assert images(namespace) == {f"{image}@{first}"}
    plain.push(namespace.name, "1", User="1001")
    namespace.apply(value | {"metadata": {"name": "web", "labels": {"x": "y"}}}).require()
    assert images(namespace) == {f"{image}@{first}"}
    namespace.kubectl("set", "image", "pod/web", f"app={other}").require()
    assert images(namespace) == {f"{other}@{second}"}


def test_every_sort_of_container_and_an_image_volume(namespace: Namespace, plain: Registry) -> None:
    found = {
        tag: (f"{plain.host}/{namespace.name}:{tag}", plain.push(namespace.name, tag, User=uid))
        for tag, uid in (("app", "1000"), ("init", "1001"), ("debug", "1002"), ("data", "1003"))
    }
    volume = {"name": "data", "image": {"reference": found["data"][0]}}
    value = pod(
        containers=[{"name": "app", "image": found["app"][0]}],
        initContainers=[{"name": "init", "image": found["init"][0]}],
        volumes=[volume],
    )
    namespace.apply(value).require()
    namespace.kubectl(
        "debug",
        "web",
        "--container=debugger",
        f"--image={found['debug'][0]}",
        "--profile=restricted",
    ).require()
    spec = namespace.get("pod", "web")["spec"]
    named = {
        "app": spec["containers"][0]["image"],
        "init": spec["initContainers"][0]["image"],
        "debug": spec["ephemeralContainers"][0]["image"],
        "data": next(v for v in spec["volumes"] if v["name"] == "data")["image"]["reference"],
    }
    assert named == {tag: f"{image}@{pushed.digest}" for tag, (image, pushed) in found.items()}


def test_a_revision_older_than_the_installation_is_pinned_once(
    namespace: Namespace, operator: Installation, plain: Registry
) -> None:
    image = f"{plain.host}/{namespace.name}:1"
    first = plain.push(namespace.name, "1", User="1000").digest
    with webhooks_removed(operator, "mutating", "validating"):
        namespace.apply(workload("Deployment", image)).require()
        assert images(namespace) == {image}

    def pinned() -> dict[str, Any] | None:
        (found,) = namespace.get("replicasets")["items"]
        return pins(found) or None

    assert list(eventually(pinned, "the controller's digest", 90).values()) == [{image: first}]
    plain.push(namespace.name, "1", User="1001")
    namespace.kubectl("scale", "deployment/web", "--replicas=2").require()
    eventually_images(namespace, {image, f"{image}@{first}"})


def test_git_sees_no_difference(namespace: Namespace, plain: Registry) -> None:
    image = f"{plain.host}/{namespace.name}:1"
    plain.push(namespace.name, "1", User="1000")
    objects = [workload(kind, image, kind.lower()) for kind in ("Deployment", "StatefulSet", "Job")]
    namespace.apply(*objects).require()
    namespace.pods(3)
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    diff = namespace.kubectl("diff", "-f", "-", stdin=json.dumps(items))
    assert (diff.code, diff.stdout) == (0, "")
