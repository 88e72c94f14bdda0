"""Judge one workload under one policy. Pure, synchronous and total: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from batten_webhooks.governance import NO_EXEMPTIONS, Exemptions
from batten_webhooks.policy import Policy, Setting
from batten_webhooks.rules import writable_tmp
from batten_webhooks.rules.rule import Context, Facts
from batten_webhooks.verdict import AppliedChange, Finding, Unknown, Verdict, Violation
from batten_webhooks.workload import Workload

NO_FACTS = Facts()
# Of one rule: more than the largest Pod that is judged can be mended of, and soon told.
MOST_FINDINGS = 50_000
# What a violation names instead of an exception; no object's name has a space.
EXEMPT_USER = "exempt user"
WINDOWS_REMEDY = "set spec.os.name to windows: the nodeSelector lets the Pod run on Windows only"


def evaluate(
    workload: Workload,
    policy: Policy,
    facts: Facts = NO_FACTS,
    *,
    judge: bool = True,
    exemptions: Exemptions = NO_EXEMPTIONS,
) -> Verdict:
    """The changes that would make the workload safe, and what is wrong with it as it stands.

    A violation that the changes take away is marked `fixed`: what is left of them is what the Pod
    would still break once it is mutated. What an exception lifts is told, but neither changed nor
    acted upon; a weaker rule that the lifted one contains goes on to hold. Without `judge` only the
    changes are asked for: no violation is told, and rules that change nothing are not run.
    """
    evaluation = _Evaluation(workload, policy, facts, exemptions, judge=judge)
    for setting in policy.settings:
        evaluation.run(setting)
    return Verdict(
        _once(evaluation.changes),
        _once(evaluation.proposed),
        tuple(evaluation.violations),
        tuple(evaluation.unknowns),
    )


class _Evaluation:
    def __init__(
        self,
        workload: Workload,
        policy: Policy,
        facts: Facts,
        exemptions: Exemptions,
        *,
        judge: bool,
    ) -> None:
        self.changes: list[AppliedChange] = []
        self.proposed: list[AppliedChange] = []
        self.violations: list[Violation] = []
        self.unknowns: list[Unknown] = []
        self._workload = workload
        self._facts = facts
        self._holding = exemptions.holding(workload)
        self._judge = judge
        self._mutable = not workload.windows_by_selector
        self._context = Context(facts=facts, version=policy.version, volumes=self._mounting(policy))

    def run(self, setting: Setting) -> None:
        """Judge by one rule."""
        if not self._judge and setting.mutation == "Disabled":
            return
        rule = setting.rule
        if rule.name in self._holding.rules or self._facts.requester in setting.exempt_users:
            self._run_with_exceptions(setting)
            return
        for count, found in enumerate(
            rule.check(self._workload, setting.parameters, self._context)
        ):
            if count == MOST_FINDINGS:
                break
            self._take(setting, found)

    def _mounting(self, policy: Policy) -> bool:
        """Whether what is missing of volumes is mounted, in every container."""
        setting = policy.setting(writable_tmp.RULE)
        return (
            setting is not None
            and setting.mutation != "Disabled"
            and setting.rule.name not in self._holding.rules
            and self._facts.requester not in setting.exempt_users
        )

    def _run_with_exceptions(self, setting: Setting, only: frozenset[str] | None = None) -> None:
        """`only` what it finds in these containers ("" is the Pod)."""
        rule, context = setting.rule, self._context
        lifted: set[str] = set()
        exempt_user = self._facts.requester in setting.exempt_users
        if not exempt_user:
            apart = self._holding.containers(rule.name)
            context = Context(context.facts, context.version, apart, context.volumes)
        for count, found in enumerate(rule.check(self._workload, setting.parameters, context)):
            if count == MOST_FINDINGS:
                break
            if only is not None and found.container not in only:
                continue
            exception = self._exception(setting, found, exempt_user=exempt_user)
            if not exception:
                self._take(setting, found)
                continue
            lifted.add(found.container)
            if isinstance(found, Finding):
                self._lift(setting, found, exception)
        for weaker in setting.weaker if lifted else ():
            self._run_with_exceptions(weaker, frozenset(lifted))

    def _take(self, setting: Setting, found: Finding | Unknown) -> None:
        if isinstance(found, Finding):
            self._take_finding(setting, found)
        elif self._asks(setting):
            self.unknowns.append(replace(found, rule=setting.rule.name))

    def _asks(self, setting: Setting) -> bool:
        """Whether a doubt of the rule concerns anybody: those who are changed, or judged by what
        nobody can change."""
        if setting.rule.mutates:
            return setting.mutation != "Disabled" and self._mutable
        return self._judge and bool(setting.actions)

    def _take_finding(self, setting: Setting, finding: Finding) -> None:
        rule, mutation = setting.rule, setting.mutation
        if finding.changes and not self._mutable:
            finding = replace(finding, remedy=WINDOWS_REMEDY, changes=())
        mended = bool(finding.changes) or (finding.at_admission and self._mutable)
        if finding.changes and mutation != "Disabled":
            into = self.changes if mutation == "Enabled" else self.proposed
            for change in finding.changes:
                into.append(AppliedChange(rule.name, finding.detail, change))
        if self._judge and setting.actions:
            fixed = mended and mutation == "Enabled"
            self.violations.append(Violation(rule.name, finding, setting.actions, fixed))

    def _lift(self, setting: Setting, finding: Finding, exception: str) -> None:
        if self._judge and setting.actions:
            finding = replace(finding, changes=())
            self.violations.append(
                Violation(setting.rule.name, finding, setting.actions, False, exception)
            )

    def _exception(self, setting: Setting, found: Finding | Unknown, *, exempt_user: bool) -> str:
        if exempt_user:
            return f"{EXEMPT_USER} {self._facts.requester}"
        lifting = self._holding.lifting(setting.rule.name, found.container)
        return lifting.name if lifting is not None else ""


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
