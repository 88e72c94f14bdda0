"""What is demanded: per rule, whether it may change Pods and what its violations lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import VERSIONS, Level, Rule, Version
from batten_webhooks.verdict import Action

Mutation = Literal["Enabled", "DryRun", "Disabled"]


@dataclass(frozen=True, slots=True)
class Setting:
    """How one rule is applied. Empty `actions` and a `Disabled` mutation switch it off.

    `weaker` are the settings of rules that this one contains: they hold where it is lifted. What
    `exempt_users` ask for themselves is not held by the rule.
    """

    rule: Rule
    mutation: Mutation
    actions: frozenset[Action]
    parameters: Any
    exempt_users: frozenset[str] = frozenset()
    weaker: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """`title` names it in messages: `preset "hardened"`, `HardeningPolicy "default"`.

    With `warn_of_changes` whoever applies a template is told how its Pods will differ.
    """

    title: str
    settings: tuple[Setting, ...]
    version: Version = VERSIONS[-1]
    warn_of_changes: bool = False

    def setting(self, rule: Rule) -> Setting | None:
        """How the rule is applied by itself; None where it is not, or stands below another."""
        return next((each for each in self.settings if each.rule is rule), None)


def contained(settings: Iterable[Setting]) -> tuple[Setting, ...]:
    """Rules that a stronger one contains, and whose actions it takes, stand below that one.

    Options may make the stronger one milder, so that with any it contains none.
    """
    by_name = {setting.rule.name: setting for setting in settings}
    for setting in tuple(by_name.values()):
        if setting.parameters != setting.rule.parameters():
            continue
        weaker = [by_name[name] for name in setting.rule.overrides if name in by_name]
        inside = tuple(each for each in weaker if each.actions <= setting.actions)
        by_name[setting.rule.name] = replace(setting, weaker=inside)
    below = {each.rule.name for setting in by_name.values() for each in setting.weaker}
    return tuple(setting for name, setting in by_name.items() if name not in below)


def _preset(name: str, levels: frozenset[Level], *, mutate: bool) -> Policy:
    settings = (
        Setting(
            rule=rule,
            mutation="Enabled" if mutate and rule.mutates else "Disabled",
            actions=rule.actions,
            parameters=rule.parameters(),
        )
        for rule in RULES
        if rule.level in levels
    )
    return Policy(f'preset "{name}"', contained(settings), warn_of_changes=mutate)


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
    return replace(policy, settings=tuple(map(_observed, policy.settings)))


def _observed(setting: Setting) -> Setting:
    return replace(
        setting,
        mutation="DryRun" if setting.mutation == "Enabled" else setting.mutation,
        actions=frozenset(("Warn", "Audit")) if "Deny" in setting.actions else setting.actions,
        weaker=tuple(map(_observed, setting.weaker)),
    )
