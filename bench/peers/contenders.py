"""Who is compared: what each runs, and the policies by which it hardens as Batten does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.peers import gatekeeper
from bench.peers.cluster import Object

POLICIES = Path(__file__).parent / "policies"
PODS = {
    "resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    ]
}
MUTATES = b'"patch":'
ALLOWS = b'"allowed":true'
# Where the API server's own policies hold: nobody's webhook is asked there.
IN_API_SERVER = "admission-policies"
# Of a selector of Namespaces; None is every one of them.
Selector = dict[str, str] | None
Policies = Callable[[str, Selector], Iterator[Object]]


@dataclass(frozen=True)
class Contender:
    """`program` serves its webhooks, "" is the API server itself. `policies` makes the whole set
    once more, for other Namespaces, with a suffix to its names. `tells` is in every answer of
    `mutate`."""

    name: str
    title: str
    program: str
    mutate: str
    validate: str
    policies: Policies
    tells: bytes = MUTATES

    def namespace(self, replicas: int) -> str:
        return f"{self.name}-{replicas}"


def _none(_: str, __: Selector) -> Iterator[Object]:
    yield from ()


def _batten(suffix: str, selector: Selector) -> Iterator[Object]:
    spec: Object = {"priority": 1 if selector else 0}
    if selector:
        spec["match"] = {"namespaceSelector": {"matchLabels": selector}}
    yield {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningPolicy",
        "metadata": {"name": f"harden{suffix}"},
        "spec": spec,
    }


def _gatekeeper(suffix: str, selector: Selector) -> Iterator[Object]:
    match = {"namespaceSelector": {"matchLabels": selector}} if selector else {}
    yield from gatekeeper.mutators(suffix, match)
    yield gatekeeper.constraint(suffix, match)


def _kyverno(suffix: str, selector: Selector) -> Iterator[Object]:
    policy: Object = yaml.safe_load((POLICIES / "kyverno.yaml").read_text())
    policy["metadata"]["name"] += suffix
    if selector:
        for rule in policy["spec"]["rules"]:
            for each in rule["match"]["any"]:
                resources = each["resources"]
                each["resources"] = {**resources, "namespaceSelector": {"matchLabels": selector}}
    yield policy


def _kyverno_cel(suffix: str, selector: Selector) -> Iterator[Object]:
    mutating, validating = _cel(selector)
    validating["validationActions"] = ["Deny"]
    # Neither for what makes Pods, nor for those that are there.
    off: Object = {"podControllers": {"controllers": []}}
    for spec in (mutating, validating):
        spec["autogen"] = off
        spec["evaluation"] = {"background": {"enabled": False}}
    mutating["evaluation"] = {}
    for kind, spec in (("MutatingPolicy", mutating), ("ValidatingPolicy", validating)):
        yield {
            "apiVersion": "policies.kyverno.io/v1",
            "kind": kind,
            "metadata": {"name": f"harden{suffix}"},
            "spec": spec,
        }


def _admission_policies(suffix: str, selector: Selector) -> Iterator[Object]:
    own = selector or {"kubernetes.io/metadata.name": f"{IN_API_SERVER}-1"}
    mutating, validating = _cel(own)
    mutating["reinvocationPolicy"] = "Never"
    for kind, spec in (("Mutating", mutating), ("Validating", validating)):
        name = f"harden{suffix}"
        spec["failurePolicy"] = "Fail"
        binding: Object = {"policyName": name}
        if kind == "Validating":
            binding["validationActions"] = ["Deny"]
        for what, made in (("AdmissionPolicy", spec), ("AdmissionPolicyBinding", binding)):
            yield {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind + what,
                "metadata": {"name": name},
                "spec": made,
            }


def _cel(selector: Selector) -> tuple[Object, Object]:
    """The specs of the two policies, as far as Kubernetes' own and Kyverno's are the same."""
    said: dict[str, Any] = yaml.safe_load((POLICIES / "cel.yaml").read_text())
    constraints: Object = dict(PODS)
    if selector:
        constraints["namespaceSelector"] = {"matchLabels": selector}
    common = {"matchConstraints": constraints, "matchConditions": said["matchConditions"]}
    return (
        {**common, "mutations": said["mutations"]},
        {**common, "validations": said["validations"]},
    )


CONTENDERS = (
    Contender("null", "null webhook (Go)", "null", "/mutate", "/validate", _none, ALLOWS),
    Contender("batten", "Batten", "batten", "/mutate", "/validate", _batten),
    Contender(
        "gatekeeper", "Gatekeeper", "gatekeeper", "/v1/mutate", "/v1/admit", _gatekeeper
    ),
    Contender(
        "kyverno", "Kyverno, ClusterPolicy", "kyverno", "/mutate/fail", "/validate/fail", _kyverno
    ),
    Contender(
        "kyverno-cel", "Kyverno, CEL policies", "kyverno", "/mpol/harden", "/vpol/harden",
        _kyverno_cel,
    ),
    Contender(
        IN_API_SERVER, "MutatingAdmissionPolicy and ValidatingAdmissionPolicy", "", "", "",
        _admission_policies,
    ),
)  # fmt: skip
