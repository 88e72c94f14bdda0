"""Policies, exceptions and their guard on a real API server, seen through kubectl."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import batten_e2e
import pytest
from batten_cluster import free_ports
from batten_command import batten
from batten_e2e import IMAGE, Kubectl, Namespace, Output, container, eventually, new_namespace
from batten_install import Installation

from batten_webhooks.rules import RULES

pytestmark = pytest.mark.cluster

LABEL = "governed-by"
PODS = "pods.validate.batten.dev"
Apply = Callable[..., Output]


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def exception(name: str, namespace: str, *rules: str, **fields: Any) -> dict[str, Any]:
    spec = {
        "match": {"namespaces": [namespace], **fields.pop("match", {})},
        "rules": list(rules),
        "reason": "the vendor's binary writes beside itself",
        "expires": (datetime.now(UTC) + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **fields,
    }
    head = {"apiVersion": "batten.dev/v1alpha1", "kind": "HardeningException"}
    return {**head, "metadata": {"name": name}, "spec": spec}


def labelled(value: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {LABEL: value}}}


def pod(name: str = "web", **fields: Any) -> dict[str, Any]:
    return batten_e2e.pod(name, containers=[container(**fields)])


ROOT: dict[str, Any] = {"securityContext": {"runAsUser": 0}}
PRIVILEGED: dict[str, Any] = {"securityContext": {"privileged": True}}


@pytest.fixture
def team(kubectl: Kubectl) -> Iterator[Namespace]:
    """A namespace that policies can select by its own name as a label."""
    name = f"team-{uuid.uuid4().hex[:8]}"
    with new_namespace(kubectl, name, {LABEL: name}) as fresh:
        yield fresh


@pytest.fixture
def apply(kubectl: Kubectl) -> Iterator[Apply]:
    """Objects of the cluster's own; they are deleted at the end."""
    done: list[str] = []

    def act(*objects: dict[str, Any], run: Kubectl = kubectl) -> Output:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        done.append(text)
        return run("apply", "-f", "-", stdin=text)

    yield act
    for text in done:
        kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text)


def refused(namespace: Namespace, value: dict[str, Any]) -> str | None:
    """What a dry run is refused with."""
    tried = namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(value))
    return tried.stderr if tried.code else None


def admitted(namespace: Namespace, value: dict[str, Any]) -> bool | None:
    return None if refused(namespace, value) else True


def governed(namespace: Namespace, name: str) -> None:
    eventually(
        lambda: (
            (refused(namespace, pod(**ROOT)) or "").find(f'HardeningPolicy "{name}"') > 0 or None
        ),
        f"{name} governs",
        5,
    )


def test_the_policy_of_highest_priority_governs(team: Namespace, apply: Apply) -> None:
    low = policy(f"{team.name}-low", match=labelled(team.name))
    high = policy(
        f"{team.name}-high",
        priority=10,
        match=labelled(team.name),
        rules={"run-as-non-root": {"validationActions": ["Warn"]}},
    )
    apply(low).require()
    governed(team, f"{team.name}-low")
    apply(high).require()
    eventually(lambda: admitted(team, pod(**ROOT)), "the other one governs", 5)
    # A namespace without the label is governed by the default.
    other = refused(Namespace("default", team.run), pod(**ROOT))
    assert other is not None
    assert 'preset "hardened"' in other


def test_the_audit_log_tells_which_policy_and_why(
    team: Namespace, apply: Apply, audit_log: Callable[[str, str, str], dict[str, Any] | None]
) -> None:
    apply(policy(team.name, priority=7, match=labelled(team.name))).require()
    governed(team, team.name)
    team.kubectl("create", "deployment", "web", f"--image={IMAGE}").require()

    def annotation() -> str | None:
        event = audit_log(team.name, "deployments", "create")
        told: str | None = (event or {}).get("annotations", {}).get("validate.batten.dev/policy")
        return told

    told = eventually(annotation, "the audit event")
    assert told == f'HardeningPolicy "{team.name}" (priority 7, its namespaceSelector matches)'


def test_labels_of_pods_select_within_named_namespaces(team: Namespace, apply: Apply) -> None:
    match = {**labelled(team.name), "podSelector": {"matchLabels": {"app": "batch"}}}
    apply(policy(team.name, match=match, rules={"run-as-non-root": {"validationActions": []}}))
    batch = pod(**ROOT)
    batch["metadata"]["labels"] = {"app": "batch"}
    eventually(lambda: admitted(team, batch), "the policy governs what has the label", 5)
    assert 'preset "hardened"' in (refused(team, pod(**ROOT)) or "")
    alone = apply(policy(f"{team.name}-alone", match={"podSelector": {"matchLabels": {"a": "b"}}}))
    assert "podSelector needs a namespaceSelector" in alone.stderr


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (
            {"rules": {"run-as-nonroot": {}}},
            "spec.rules.run-as-nonroot: unknown rule: did you mean",
        ),
        ({"rule": {}}, "spec.rule: unknown field: did you mean rules?"),
        ({"rules": {"graceful-shutdown": {"preStopSleepSeconds": 90}}}, "preStopSleepSeconds"),
        ({"rules": {"probes": {"exemptUsers": ["system:node:a"]}}}, "outside kube-system"),
        ({"defaults": {"validationActions": ["Refuse"]}}, '"Deny", "Warn", "Audit"'),
        ({"podSecurityVersion": "v1.20"}, '"v1.37"'),
    ],
)
def test_a_wrong_policy_is_refused_where_it_is_applied(
    apply: Apply, spec: dict[str, Any], complaint: str
) -> None:
    done = apply(policy(f"wrong-{uuid.uuid4().hex[:8]}", **spec))
    assert done.code
    assert complaint in done.stderr


def test_a_wrong_change_leaves_the_last_good_policy(team: Namespace, apply: Apply) -> None:
    apply(policy(team.name, match=labelled(team.name))).require()
    governed(team, team.name)
    assert apply(policy(team.name, match=labelled(team.name), rules={"nothing": {}})).code
    governed(team, team.name)


def test_equal_priorities(team: Namespace, apply: Apply) -> None:
    apply(policy(team.name, match=labelled(team.name), priority=5)).require()
    governed(team, team.name)
    twin = apply(policy(f"{team.name}-twin", match=labelled(team.name), priority=5))
    assert f'HardeningPolicy "{team.name}" matches the same Pods with priority 5' in twin.stderr
    selector = {"matchExpressions": [{"key": LABEL, "operator": "Exists"}]}
    overlapping = apply(
        policy(f"a-{team.name}", match={"namespaceSelector": selector}, priority=5)
    ).require()
    assert f'"a-{team.name}" governs, the first by name' in overlapping.stderr
    governed(team, f"a-{team.name}")


def test_an_exception_lifts_one_rule_of_one_container_until_it_ends(
    team: Namespace, apply: Apply
) -> None:
    apply(exception(team.name, team.name, "run-as-non-root", match={"containers": ["app"]}))
    eventually(lambda: admitted(team, pod(**ROOT)), "the exception holds", 5)
    value = pod(**ROOT)
    value["spec"]["containers"].append({"name": "other", "image": IMAGE, **ROOT})
    complaint = refused(team, value)
    assert complaint is not None
    assert 'container "other"' in complaint
    assert 'run-as-non-root: container "app"' not in complaint
    # Nothing else is lifted.
    assert "no-privileged" in (refused(team, pod(**PRIVILEGED)) or "")


def test_an_exception_warns_before_its_end_and_then_is_gone(team: Namespace, apply: Apply) -> None:
    def until(**left: float) -> None:
        ends = (datetime.now(UTC) + timedelta(**left)).strftime("%Y-%m-%dT%H:%M:%SZ")
        apply(exception(team.name, team.name, "run-as-non-root", expires=ends)).require()

    until(days=13.5)

    def warned() -> str | None:
        done = team.apply(pod("late", **ROOT))
        return done.stderr if done.code == 0 else None

    assert f'HardeningException "{team.name}" ends in 13 days' in eventually(warned, "it holds", 10)
    until(seconds=2)
    eventually(lambda: refused(team, pod(**ROOT)), "the exception has ended", 20)


def test_what_is_excepted_is_not_changed(team: Namespace, apply: Apply) -> None:
    apply(exception(team.name, team.name, "read-only-root-filesystem", "writable-tmp")).require()

    def written() -> Any:
        done = team.kubectl(
            "create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod())
        ).require()
        made = json.loads(done.stdout)["spec"]["containers"][0]
        return None if "readOnlyRootFilesystem" in made["securityContext"] else made

    made = eventually(written, "the exception holds", 5)
    assert made["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "/tmp" not in [mount["mountPath"] for mount in made.get("volumeMounts", [])]  # noqa: S108


def test_an_exception_without_reason_or_end_is_refused(apply: Apply) -> None:
    value = exception("endless", "default", "run-as-non-root")
    del value["spec"]["expires"]
    assert "spec.expires: Required value" in apply(value).stderr
    blank = exception("blank", "default", "run-as-non-root", reason=" ")
    assert "spec.reason: must say why" in apply(blank).stderr
    every = exception("every", "default", "run-as-non-root", match={"images": ["*"]})
    assert "spec.match.images[0]: stands for every image" in apply(every).stderr


# --- who is governed cannot free himself ---------------------------------------------------------


@pytest.fixture
def owner(kubectl: Kubectl, team: Namespace) -> Iterator[Kubectl]:
    """Somebody who may do everything with Namespaces and what is in them, and no more."""
    name = f"owner-{team.name}"
    verbs, resources = "--verb=*", "--resource=namespaces,pods,deployments.apps"
    kubectl("create", "clusterrole", name, verbs, resources).require()
    kubectl(
        "create", "clusterrolebinding", name, f"--clusterrole={name}", f"--user={name}"
    ).require()

    def act(*arguments: str, stdin: str | None = None, timeout: float = 60) -> Output:
        return kubectl(f"--as={name}", *arguments, stdin=stdin, timeout=timeout)

    eventually(lambda: act("get", "namespaces").code == 0 or None, "the role takes effect")
    yield act  # type: ignore[misc]
    kubectl("delete", "clusterrole,clusterrolebinding", name)


def test_the_labels_that_policies_select_by_are_guarded(
    team: Namespace, owner: Kubectl, kubectl: Kubectl, apply: Apply
) -> None:
    apply(policy(team.name, match=labelled(team.name))).require()
    governed(team, team.name)
    for change in (f"{LABEL}-", f"{LABEL}=another"):
        done = owner("label", "--overwrite", "namespace", team.name, change)
        assert done.code, done
        assert f'Namespace "{team.name}": its labels decide' in done.stderr
        assert f"metadata.labels[{LABEL}]" in done.stderr
    replaced = json.dumps([{"op": "remove", "path": "/metadata/labels"}])
    assert owner("patch", "namespace", team.name, "--type=json", "-p", replaced).code
    # Other labels, and other fields, are his own.
    owner("label", "namespace", team.name, "cost-centre=17").require()
    owner("annotate", "namespace", team.name, "note=mine").require()
    # So is a new namespace, but not one that chooses its policy.
    named = f"{team.name}-new"
    head = {"apiVersion": "v1", "kind": "Namespace"}
    chosen = {**head, "metadata": {"name": named, "labels": {LABEL: team.name}}}
    assert owner("create", "-f", "-", stdin=json.dumps(chosen)).code
    plain = {**head, "metadata": {"name": named, "labels": {"cost-centre": "17"}}}
    owner("create", "-f", "-", stdin=json.dumps(plain)).require()
    owner("delete", "namespace", named, "--wait=false").require()
    # Who may write policies may choose.
    kubectl("label", "--overwrite", "namespace", team.name, f"{LABEL}=another").require()


def test_policies_and_exceptions_are_not_for_the_governed(
    team: Namespace, owner: Kubectl, apply: Apply
) -> None:
    assert "Forbidden" in apply(policy(team.name, match=labelled(team.name)), run=owner).stderr
    granted = exception(team.name, team.name, "run-as-non-root")
    assert "Forbidden" in apply(granted, run=owner).stderr


def test_labels_and_annotations_of_a_pod_exempt_nothing(team: Namespace) -> None:
    value = pod(**PRIVILEGED)
    value["metadata"] |= {
        "labels": {"batten.dev/exempt": "true", "kubernetes.io/metadata.name": "kube-system"},
        "annotations": {"batten.dev/exempt": "true"},
    }
    assert "no-privileged" in (refused(team, value) or "")


# --- every replica --------------------------------------------------------------------------------


def ask(port: int, host: str, namespace: str, value: dict[str, Any]) -> dict[str, Any]:
    """One replica's own answer to a review of a Pod."""
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "name": "web",
        "namespace": namespace,
        "userInfo": {"username": "jane"},
        "object": value,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    asked = urllib.request.Request(
        f"https://{host}:{port}/validate",
        json.dumps(review).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=5, context=context) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)["response"]
        return found


@pytest.fixture
def replicas(process: Installation) -> Iterator[list[int]]:
    """The ports of three replicas."""
    ports = [process.port, *free_ports(2)]
    for port in ports[1:]:
        process.launch(f"replica-{port}", port)

    def ready(port: int) -> bool | None:
        try:
            return ask(port, process.host, "default", pod())["allowed"] in {True, False}
        except OSError:
            return None

    for port in ports:
        eventually(partial(ready, port), f"the replica at {port} serves")
    yield ports
    for port in ports[1:]:
        process.plane.end(f"replica-{port}")


def test_a_change_takes_effect_on_every_replica(
    replicas: list[int], process: Installation, team: Namespace, apply: Apply
) -> None:
    def governs(port: int, title: str) -> float | None:
        told = ask(port, process.host, team.name, pod())["auditAnnotations"]["policy"]
        return time.monotonic() if told.startswith(title) else None

    def slowest(title: str) -> float:
        changed = time.monotonic()
        times = [eventually(partial(governs, port, title), title, 5) for port in replicas]
        return max(times) - changed

    apply(policy(team.name, match=labelled(team.name))).require()
    made = slowest(f'HardeningPolicy "{team.name}"')
    team.run("delete", "hardeningpolicy", team.name).require()
    gone = slowest('preset "hardened"')
    print(f"the slowest of three replicas: {made:.2f} s when made, {gone:.2f} s when deleted")


def test_the_next_step_of_a_rollout_can_be_applied(team: Namespace) -> None:
    team.apply(pod()).require()
    step = batten("rollout", "--namespace", team.name, KUBECONFIG=team.run.kubeconfig).out
    assert f'- "{team.name}"' in step
    applied = team.run("apply", "--dry-run=server", "-f", "-", stdin=step).require()
    assert "hardeningpolicy.batten.dev/batten-rollout-deny created" in applied.stdout


def test_the_audit_judges_by_what_the_cluster_has(team: Namespace, apply: Apply) -> None:
    team.apply(pod()).require()
    audit = partial(
        batten,
        *("audit", "--namespace", team.name, "--format", "json"),
        KUBECONFIG=team.run.kubeconfig,
    )
    apply(policy(team.name, match=labelled(team.name), rules={"probes": {"validationActions": []}}))
    apply(exception(team.name, team.name, "resources"))
    (web,) = json.loads(audit().out)["workloads"]
    assert web["policy"] == f'HardeningPolicy "{team.name}"'
    assert web["why"] == "priority 0, its namespaceSelector matches"
    told = {remark["rule"]: remark["exception"] for remark in web["remarks"]}
    assert told["resources"] == team.name
    assert "probes" not in told
    other = json.loads(audit("--policy", "baseline").out)
    assert other["workloads"][0]["policy"] == 'preset "baseline"'


def test_kubectl_explains_the_rules(kubectl: Kubectl) -> None:
    told = kubectl("explain", "hardeningpolicy.spec.rules").require().stdout
    for rule in RULES:
        summary = " ".join(told.partition(f"  {rule.name}\t<Object>\n")[2].split())
        assert summary.startswith(rule.summary)
    assert "-required-" in kubectl("explain", "hardeningexception.spec").require().stdout
