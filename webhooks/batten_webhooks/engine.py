"""Judge one workload under one policy. Pure, synchronous and total: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from batten_webhooks.policy import Policy
from batten_webhooks.rules.rule import Context, Facts
from batten_webhooks.verdict import AppliedChange, Unknown, Verdict, Violation
from batten_webhooks.workload import Workload

NO_FACTS = Facts()
# Of one rule: more than the largest Pod that is judged can be mended of, and soon told.
MOST_FINDINGS = 50_000
WINDOWS_REMEDY = "set spec.os.name to windows: the nodeSelector lets the Pod run on Windows only"


def evaluate(
    workload: Workload, policy: Policy, facts: Facts = NO_FACTS, *, judge: bool = True
) -> Verdict:
    """The changes that would make the workload safe, and what is wrong with it as it stands.

    A violation that the changes take away is marked `fixed`: what is left of them is what the Pod
    would still break once it is mutated. Without `judge` only the changes are asked for: no
    violation is told, and rules that change nothing are not run.
    """
    context = Context(facts=facts, version=policy.version)
    mutable = not workload.windows_by_selector
    changes: list[AppliedChange] = []
    proposed: list[AppliedChange] = []
    violations: list[Violation] = []
    unknowns: list[Unknown] = []
    for setting in policy.settings:
        rule, mutation = setting.rule, setting.mutation
        if not judge and mutation == "Disabled":
            continue
        for count, found in enumerate(rule.check(workload, setting.parameters, context)):
            if count == MOST_FINDINGS:
                break
            if isinstance(found, Unknown):
                if mutation != "Disabled" and mutable:
                    unknowns.append(replace(found, rule=rule.name))
                continue
            finding = found
            if finding.changes and not mutable:
                finding = replace(finding, remedy=WINDOWS_REMEDY, changes=())
            if finding.changes and mutation != "Disabled":
                into = changes if mutation == "Enabled" else proposed
                for change in finding.changes:
                    into.append(AppliedChange(rule.name, finding.detail, change))
            if judge and setting.actions:
                fixed = bool(finding.changes) and mutation == "Enabled"
                violations.append(Violation(rule.name, finding, setting.actions, fixed))
    return Verdict(_once(changes), _once(proposed), tuple(violations), tuple(unknowns))


def _once(applied: Iterable[AppliedChange]) -> tuple[AppliedChange, ...]:
    """Without the changes that an earlier one has made already: rules may ask for the same."""
    made: set[object] = set()
    result = []
    for item in applied:
        place: object = item.change.path
        if item.change.path.endswith("/-"):
            value = item.change.value
            place = (item.change.path, value if isinstance(value, str) else id(value))
        if place not in made:
            made.add(place)
            result.append(item)
    return tuple(result)
