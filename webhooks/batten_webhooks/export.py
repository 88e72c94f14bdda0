"""A policy as ValidatingAdmissionPolicies (admissionregistration.k8s.io/v1), for what CEL can say.

They are bound to Pods and judge them as they stand: API servers ask nobody else, so that a cluster
is held while Batten is away. https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from batten_webhooks.governance import NAME_LABEL
from batten_webhooks.policy import Policy, Setting
from batten_webhooks.rules.rule import Cel, Version
from batten_webhooks.verdict import Action

Json = dict[str, Any]
PREFIX = "batten-"
API_VERSION = "admissionregistration.k8s.io/v1"
EMPTY = ".orValue([])"
VARIABLES = {
    "spec": "object.spec",
    # Of two types, which only `dyn` lets stand in one list.
    "containers": " + ".join(
        f"dyn(object.spec.?{role}{EMPTY})"
        for role in ("containers", "initContainers", "ephemeralContainers")
    ),
    "windows": "object.spec.?os.?name.orValue('') == 'windows'",
    "userNamespace": "!object.spec.?hostUsers.orValue(true)",
}


@dataclass(frozen=True, slots=True)
class Export:
    """`left_out` are rules that CEL cannot say."""

    manifests: list[Json]
    left_out: tuple[str, ...]


def vap(policy: Policy, exempt: Iterable[str]) -> Export:
    """Policies and bindings, one pair for each set of actions; `exempt` are names of namespaces."""
    groups: dict[tuple[str, ...], list[Setting]] = {}
    left_out = []
    for setting in policy.settings:
        if setting.rule.cel is None:
            left_out.append(setting.rule.name)
        elif setting.actions:
            groups.setdefault(_actions(setting.actions), []).append(setting)
    manifests = []
    for actions, settings in groups.items():
        name = PREFIX + "-".join(action.lower() for action in actions)
        manifests.append(_policy(name, settings, policy.version, sorted(exempt)))
        manifests.append(_binding(name, actions))
    return Export(manifests, tuple(left_out))


def _actions(actions: Iterable[Action]) -> tuple[str, ...]:
    """The API refuses Deny and Warn together: what is denied is told anyway."""
    found = sorted(actions, reverse=True)
    return tuple(action for action in found if not (action == "Warn" and "Deny" in found))


def _policy(name: str, settings: list[Setting], version: Version, exempt: list[str]) -> Json:
    selector = {"key": NAME_LABEL, "operator": "NotIn", "values": exempt}
    return {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {"matchExpressions": [selector]},
                "resourceRules": [
                    _resources("pods", "CREATE", "UPDATE"),
                    _resources("pods/ephemeralcontainers", "UPDATE"),
                ],
            },
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
                validation for setting in settings for validation in _validations(setting, version)
            ],
        },
    }


def _resources(resource: str, *operations: str) -> Json:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": list(operations),
        "resources": [resource],
        "scope": "Namespaced",
    }


def _validations(setting: Setting, version: Version) -> Iterator[Json]:
    """One for the Pod, one for its containers, each with the way out in its message."""
    rule = setting.rule
    assert rule.cel is not None  # noqa: S101 - only such settings are grouped
    cel: Cel = rule.cel(setting.parameters, version)
    details = f"{cel.detail} (batten explain {rule.name})"
    if cel.pod:
        yield {"expression": cel.pod, "message": f"{rule.name}: {details}", "reason": "Forbidden"}
    if cel.container:
        broken = f"variables.containers.filter(c, !({cel.container})).map(c, c.name).join(', ')"
        head, tail = json.dumps(f"{rule.name}: container "), json.dumps(f": {details}")
        yield {
            "expression": f"variables.containers.all(c, {cel.container})",
            "message": f"{rule.name}: {details}",
            "messageExpression": f"{head} + {broken} + {tail}",
            "reason": "Forbidden",
        }


def _binding(name: str, actions: tuple[str, ...]) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": list(actions)},
    }
