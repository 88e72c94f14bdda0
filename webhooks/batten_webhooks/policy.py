"""What is demanded: per rule, whether it may change Pods and what its violations lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import VERSIONS, Level, Rule, Version
from batten_webhooks.verdict import Action

Mutation = Literal["Enabled", "DryRun", "Disabled"]


@dataclass(frozen=True, slots=True)
class Setting:
    """How one rule is applied. Empty `actions` and a `Disabled` mutation switch it off."""

    rule: Rule
    mutation: Mutation
    actions: frozenset[Action]
    parameters: Any


@dataclass(frozen=True, slots=True)
class Policy:
    """`title` names it in messages: `preset "hardened"`, `HardeningPolicy "default"`."""

    title: str
    settings: tuple[Setting, ...]
    version: Version = VERSIONS[-1]


def _preset(name: str, levels: frozenset[Level], *, mutate: bool) -> Policy:
    rules = [rule for rule in RULES if rule.level in levels]
    overridden = {weaker for rule in rules for weaker in rule.overrides}
    settings = tuple(
        Setting(
            rule=rule,
            mutation="Enabled" if mutate and rule.mutates else "Disabled",
            actions=rule.actions,
            parameters=rule.parameters(),
        )
        for rule in rules
        if rule.name not in overridden
    )
    return Policy(title=f'preset "{name}"', settings=settings)


# `baseline` and `restricted` are exactly the Pod Security Standards: no changes, no extras.
PRESETS: Mapping[str, Policy] = {
    "baseline": _preset("baseline", frozenset(("baseline",)), mutate=False),
    "restricted": _preset("restricted", frozenset(("baseline", "restricted")), mutate=False),
    "hardened": _preset(
        "hardened", frozenset(("baseline", "restricted", "hardened", "advice")), mutate=True
    ),
}


def observing(policy: Policy) -> Policy:
    """The same demands, enforced by nobody: changes are proposed, violations warned of."""
    settings = tuple(
        replace(
            setting,
            mutation="DryRun" if setting.mutation == "Enabled" else setting.mutation,
            actions=frozenset(("Warn", "Audit")) if "Deny" in setting.actions else setting.actions,
        )
        for setting in policy.settings
    )
    return replace(policy, settings=settings)
