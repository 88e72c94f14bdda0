"""A policy as ValidatingAdmissionPolicies (admissionregistration.k8s.io/v1), for what CEL can say.

They are bound to Pods and judge them as they stand: API servers ask nobody else, so that a cluster
is held while Batten is away. https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from batten_webhooks.governance import NAME_LABEL, GoverningPolicy
from batten_webhooks.policy import Setting
from batten_webhooks.rules.rule import Version, cel_list
from batten_webhooks.selectors import Requirement, Selector
from batten_webhooks.verdict import Action

Json = dict[str, Any]
API_VERSION = "admissionregistration.k8s.io/v1"
# By this label everything that was exported is found again.
LABELS = {"app.kubernetes.io/managed-by": "batten-export"}


def _containers(owner: str) -> str:
    """Of two types, which only `dyn` lets stand in one list."""
    roles = ("containers", "initContainers", "ephemeralContainers")
    return " + ".join(f"dyn({owner}.spec.?{role}.orValue([]))" for role in roles)


VARIABLES = {
    "spec": "object.spec",
    "containers": _containers("object"),
    "before": f"oldObject == null ? [] : {_containers('oldObject')}",
    # Of a Pod that stands, the API server lets nothing change that rules look at but images.
    "added": "variables.containers.filter(c, !variables.before.exists(b, b.name == c.name))",
    "changed": "variables.containers.filter(c, "
    "!variables.before.exists(b, b.name == c.name && b.?image == c.?image))",
    "windows": "object.spec.?os.?name.orValue('') == 'windows'",
    "userNamespace": "!object.spec.?hostUsers.orValue(true)",
}


@dataclass(frozen=True, slots=True)
class Export:
    """`left_out` are rules that CEL cannot say."""

    manifests: list[Json]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Demand:
    """A rule's, on everybody for whom `guard`, an expression, is true."""

    setting: Setting
    guard: str = ""


def vap(governing: GoverningPolicy, exempt: Iterable[str]) -> Export:
    """Policies and bindings, one pair for each set of actions; `exempt` are names of namespaces.

    The names of a policy's begin with its own, those of a preset, which has none, do not.
    """
    groups: dict[tuple[str, ...], list[_Demand]] = {}
    left_out = []
    for setting in governing.policy.settings:
        if setting.rule.cel is None and setting.actions:
            left_out.append(setting.rule.name)
        for demand in _demands(setting):
            groups.setdefault(_actions(demand.setting.actions), []).append(demand)
    constraints = _constraints(governing, exempt)
    manifests = []
    for actions, demands in groups.items():
        words = ("batten", governing.name, *(action.lower() for action in actions))
        name = "-".join(word for word in words if word)
        manifests.append(_policy(name, constraints, demands, governing.policy.version))
        manifests.append(_binding(name, actions))
    return Export(manifests, tuple(left_out))


def _demands(setting: Setting, guard: str = "") -> Iterator[_Demand]:
    """The weaker rules within this one hold for the users that it exempts."""
    if setting.rule.cel is None or not setting.actions:
        return
    if not setting.exempt_users:
        yield _Demand(setting, guard)
        return
    exempt = f"request.userInfo.username in {cel_list(setting.exempt_users)}"
    yield _Demand(setting, " && ".join(filter(None, (guard, f"!({exempt})"))))
    for weaker in setting.weaker:
        yield from _demands(weaker, " && ".join(filter(None, (guard, exempt))))


def _actions(actions: Iterable[Action]) -> tuple[str, ...]:
    """The API refuses Deny and Warn together: what is denied is told anyway."""
    found = sorted(actions, reverse=True)
    return tuple(action for action in found if not (action == "Warn" and "Deny" in found))


def _constraints(governing: GoverningPolicy, exempt: Iterable[str]) -> Json:
    apart = Requirement(NAME_LABEL, "NotIn", frozenset(exempt))
    constraints: Json = {
        "matchPolicy": "Equivalent",
        "namespaceSelector": _selector(Selector((*governing.namespaces.requirements, apart))),
        "resourceRules": [
            _resources("pods", "CREATE", "UPDATE"),
            _resources("pods/ephemeralcontainers", "UPDATE"),
        ],
    }
    if governing.pods.requirements:
        constraints["objectSelector"] = _selector(governing.pods)
    return constraints


def _selector(selector: Selector) -> Json:
    return {
        "matchExpressions": [
            {"key": each.key, "operator": each.operator}
            | ({"values": sorted(each.values)} if each.values else {})
            for each in selector.requirements
        ]
    }


def _resources(resource: str, *operations: str) -> Json:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": list(operations),
        "resources": [resource],
        "scope": "Namespaced",
    }


def _policy(name: str, constraints: Json, demands: list[_Demand], version: Version) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": constraints,
            "matchConditions": [
                {
                    "name": "spec-changed",
                    "expression": "request.operation != 'UPDATE' || object.spec != oldObject.spec",
                }
            ],
            "variables": [
                {"name": variable, "expression": expression}
                for variable, expression in VARIABLES.items()
            ],
            "validations": [
                validation for demand in demands for validation in _validations(demand, version)
            ],
        },
    }


def _validations(demand: _Demand, version: Version) -> Iterator[Json]:
    """One for the Pod, one for its containers, each with the way out in its message."""
    rule = demand.setting.rule
    if rule.cel is None:
        return
    cel = rule.cel(demand.setting.parameters, version)
    details = f"{cel.detail} (batten explain {rule.name})"
    unless = f"!({demand.guard}) || " if demand.guard else ""
    if cel.pod:
        yield {
            "expression": f"request.operation == 'UPDATE' || {unless}({cel.pod})",
            "message": f"{rule.name}: {details}",
            "reason": "Forbidden",
        }
    if cel.container:
        judged = "variables.changed" if cel.of_image else "variables.added"
        broken = f"{judged}.filter(c, !({cel.container})).map(c, c.name).join(', ')"
        head, tail = json.dumps(f"{rule.name}: container "), json.dumps(f": {details}")
        yield {
            "expression": f"{unless}{judged}.all(c, {cel.container})",
            "message": f"{rule.name}: {details}",
            "messageExpression": f"{head} + {broken} + {tail}",
            "reason": "Forbidden",
        }


def _binding(name: str, actions: tuple[str, ...]) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": {"policyName": name, "validationActions": list(actions)},
    }
