"""What a cluster's workloads would meet if each of them were created again. Pure: no I/O.

A workload is the object that somebody wrote: the top of the chain of owners of its Pods, or a Pod
that has no owner. What its Pods have in common is told once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec

from batten_webhooks.verdict import Change, Verdict, Violation, field_path, pointer_key
from batten_webhooks.workload import TEMPLATE_PATHS, Kind, Workload, group_of

Outcome = Literal["compliant", "changed", "warned", "excepted", "refused"]
# In rising severity: a workload's outcome is the worst of its remarks.
OUTCOMES: tuple[Outcome, ...] = ("compliant", "changed", "warned", "excepted", "refused")
# More remarks of one workload are not kept: its Pods could otherwise fill the memory.
MOST_REMARKS = 500
MOST_LINES = 40
# Words that YAML needs no quotes for, unless they are reserved.
_PLAIN = re.compile(r"/?[A-Za-z][\w./-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Remark:
    """One finding in one workload, whichever of its Pods have it.

    `path` is a field path in the workload's own object; `lines` are YAML lines to add to its Pod
    template, "" where a person has to decide; `exception` names the HardeningException that lifts
    the finding, "" where none does; `container` is "" for what belongs to the whole Pod.
    """

    rule: str
    outcome: Outcome
    container: str
    detail: str
    remedy: str
    path: str
    lines: str = ""
    exception: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadResult:
    """`pods` of it were judged; 0 where its template was, since it has none. `policy` governs it,
    for the reason `why`."""

    namespace: str
    kind: str
    name: str
    pods: int
    policy: str
    why: str
    remarks: tuple[Remark, ...] = ()

    @property
    def outcome(self) -> Outcome:
        return worst(remark.outcome for remark in self.remarks)


Counts = dict[Outcome, int]


@dataclass(slots=True)
class Audit:
    """`at` is in UTC; `rules` are those that were asked for; `problems` tell what was not read."""

    cluster: str
    at: datetime
    workloads: list[WorkloadResult] = field(default_factory=list)
    rules: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)

    def totals(self) -> Counts:
        """Workloads by their outcome; every outcome is there, if with 0."""
        return _counts(result.outcome for result in self.workloads)

    def by_namespace(self) -> dict[str, Counts]:
        """Workloads by their outcome, per namespace in order of names."""
        outcomes: dict[str, list[Outcome]] = {}
        for result in self.workloads:
            outcomes.setdefault(result.namespace, []).append(result.outcome)
        return {name: _counts(outcomes[name]) for name in sorted(outcomes)}

    def by_rule(self) -> dict[tuple[str, str], Counts]:
        """Workloads by what one rule says of them, per namespace and rule.

        Namespaces come in order of names, rules in their own; a workload of which the rule says
        nothing is compliant with it.
        """
        found: dict[tuple[str, str], list[Outcome]] = {}
        sizes = Counter(result.namespace for result in self.workloads)
        for result in self.workloads:
            for rule, outcome in by_rule(result).items():
                found.setdefault((result.namespace, rule), []).append(outcome)
        counts = {}
        for namespace in sorted(sizes):
            for rule in self.rules:
                outcomes = found.get((namespace, rule), [])
                row = _counts(outcomes)
                row["compliant"] += sizes[namespace] - len(outcomes)
                counts[namespace, rule] = row
        return counts


def by_rule(result: WorkloadResult) -> dict[str, Outcome]:
    """The worst that each rule says of a workload; rules that say nothing are left out."""
    outcomes: dict[str, list[Outcome]] = {}
    for remark in result.remarks:
        outcomes.setdefault(remark.rule, []).append(remark.outcome)
    return {rule: worst(found) for rule, found in outcomes.items()}


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    return max(outcomes, key=OUTCOMES.index, default="compliant")


def _counts(outcomes: Iterable[Outcome]) -> Counts:
    counted = Counter(outcomes)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


# --- tallying -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Owner:
    """The object that a Pod belongs to in the end, the Pod itself where it has none."""

    namespace: str
    api_version: str
    kind: str
    name: str
    uid: str = field(default="", compare=False)

    @property
    def prefix(self) -> str:
        """The JSON Pointer of its Pod template; of a kind that is not known, the usual one."""
        kind = Kind(group_of(self.api_version), self.kind)
        path = TEMPLATE_PATHS.get(kind, ("spec", "template"))
        return "".join(f"/{name}" for name in path)


@dataclass(frozen=True, slots=True)
class Judged:
    """A Pod, or a template that has no Pods (`pods` is 0), with its verdict under a policy."""

    workload: Workload
    verdict: Verdict
    policy: str
    why: str
    pods: int = 1


@dataclass(slots=True)
class _Entry:
    pods: int = 0
    policy: str = ""
    why: str = ""
    severity: int = -1
    remarks: dict[tuple[str, str, str], Remark] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """Verdicts gathered by owner, each finding once.

    Pods of one owner may be governed differently: the policy that is harshest on them is named.
    """

    _entries: dict[Owner, _Entry] = field(default_factory=dict)

    def __contains__(self, owner: object) -> bool:
        return owner in self._entries

    def add(self, owner: Owner, judged: Judged) -> None:
        verdict = judged.verdict
        entry = self._entries.setdefault(owner, _Entry())
        entry.pods += judged.pods
        severity = 0
        proposed = {applied.change.path for applied in verdict.proposed}
        for violation in verdict.violations:
            outcome = outcome_of(violation, proposed)
            if outcome is None:
                continue
            severity = max(severity, OUTCOMES.index(outcome))
            known = entry.remarks.get(violation.key)
            if known is None:
                if len(entry.remarks) < MOST_REMARKS:
                    remark = _remark(owner, judged.workload, violation, outcome)
                    entry.remarks[violation.key] = remark
            elif OUTCOMES.index(outcome) > OUTCOMES.index(known.outcome):
                entry.remarks[violation.key] = _remark(owner, judged.workload, violation, outcome)
        if severity > entry.severity:
            entry.severity, entry.policy, entry.why = severity, judged.policy, judged.why

    def results(self) -> list[WorkloadResult]:
        """In order of namespaces, kinds and names."""
        return [
            WorkloadResult(
                namespace=owner.namespace,
                kind=owner.kind,
                name=owner.name,
                pods=entry.pods,
                policy=entry.policy,
                why=entry.why,
                remarks=tuple(entry.remarks.values()),
            )
            for owner, entry in ((owner, self._entries[owner]) for owner in self.owners())
        ]

    def owners(self) -> list[Owner]:
        """In the same order as their results."""
        return sorted(self._entries, key=lambda o: (o.namespace, o.kind, o.name, o.api_version))


def outcome_of(violation: Violation, proposed: Collection[str]) -> Outcome | None:
    """What becomes of a finding when the Pod is created again; None where nobody is told.

    `proposed` are the paths of the changes whose mutation is `DryRun`: those mend nothing yet.
    """
    if violation.exception:
        return "excepted"
    if violation.fixed:
        return "changed"
    if "Deny" in violation.actions:
        return "refused"
    if any(change.path in proposed for change in violation.finding.changes):
        return "changed"
    return "warned" if violation.actions else None


def _remark(owner: Owner, workload: Workload, violation: Violation, outcome: Outcome) -> Remark:
    finding = violation.finding
    return Remark(
        rule=violation.rule,
        outcome=outcome,
        container=finding.container,
        detail=finding.detail,
        remedy=finding.remedy,
        path=field_path(owner.prefix + finding.path),
        lines=lines_to_add(workload, finding.changes),
        exception=violation.exception,
    )


# --- lines to add -------------------------------------------------------------------------------


def lines_to_add(workload: Workload, changes: Iterable[Change]) -> str:
    """What the changes add to a Pod template, as YAML; "" for none, or where something is replaced.

    A container is an entry of its list with its name, as in a strategic merge patch.
    """
    names = {site.pointer: site.name for site in workload.sites}
    root: dict[str, Any] = {}
    for change in changes:
        if change.op != "add":
            return ""
        _put(root, change.path, change.value, names)
    lines = _yaml(root, "") if root else []
    return "\n".join(lines) if len(lines) <= MOST_LINES else ""


def _put(root: dict[str, Any], path: str, value: Any, names: Mapping[str, str]) -> None:
    node: Any = root
    tokens = path.split("/")[1:]
    pointer = ""
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        pointer += f"/{token}"
        key = pointer_key(token)
        if isinstance(node, list):
            if pointer in names:
                node = _named(node, names[pointer])
                continue
            node.append(value if not following else {})
            node = node[-1]
        elif not following:
            node[key] = value
        else:
            listed = following == "-" or following.isdecimal()
            node = node.setdefault(key, [] if listed else {})


def _named(items: list[Any], name: str) -> dict[str, Any]:
    for item in items:
        if isinstance(item, dict) and item.get("name") == name:
            return item
    items.append({"name": name})
    made: dict[str, Any] = items[-1]
    return made


def _yaml(value: Any, indent: str) -> list[str]:
    """Block style for what holds something, JSON, which is YAML, for the rest."""
    lines: list[str] = []
    if isinstance(value, dict):
        for key, item in value.items():
            name = key if key.replace("-", "").replace("/", "").replace(".", "").isalnum() else None
            lines += _entry(f"{indent}{name or _scalar(key)}:", item, indent + "  ")
    else:
        for item in value:
            if item and isinstance(item, dict | list):
                first, *rest = _yaml(item, indent + "  ")
                lines += [f"{indent}- {first.lstrip()}", *rest]
            else:
                lines.append(f"{indent}- {_scalar(item)}")
    return lines


def _entry(head: str, item: Any, indent: str) -> list[str]:
    if item and isinstance(item, dict | list):
        return [head, *_yaml(item, indent)]
    return [f"{head} {_scalar(item)}"]


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _reserved(value):
        return value
    return msgspec.json.encode(value).decode()


def _reserved(word: str) -> bool:
    """Words that YAML 1.1 takes for something else."""
    return word.lower() in {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
