"""The next safe step from a cluster that is only watched to one that is held. Pure: no I/O.

Each namespace goes its own way, Audit → Warn → Deny: one of three policies governs it, which name
their namespaces by the label kubernetes.io/metadata.name, that the API server itself sets. A
namespace never goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from batten_webhooks.audit import Audit, WorkloadResult
from batten_webhooks.governance import NAME_LABEL

Step = Literal["", "Audit", "Warn", "Deny"]
STEPS: tuple[Step, ...] = ("", "Audit", "Warn", "Deny")
NAMES: Mapping[Step, str] = {
    "Audit": "batten-rollout-audit",
    "Warn": "batten-rollout-warn",
    "Deny": "batten-rollout-deny",
}
# A namespace stands in one of them only; were it in two, the stricter one would govern.
PRIORITIES: Mapping[Step, int] = {"Audit": 1001, "Warn": 1002, "Deny": 1003}
MOST_HELD = 20


@dataclass(frozen=True, slots=True)
class Move:
    """Where a namespace stands and goes to; `refused` is what holds it back, if anything."""

    namespace: str
    before: Step
    after: Step
    refused: tuple[WorkloadResult, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    moves: tuple[Move, ...]
    problems: tuple[str, ...] = ()
    kept: Mapping[str, Step] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether every namespace is held already."""
        return all(move.before == "Deny" for move in self.moves)

    def namespaces(self, step: Step) -> list[str]:
        """Those that the policy of a step is to name, in order."""
        moved = [move.namespace for move in self.moves if move.after == step]
        return sorted([*moved, *(name for name, at in self.kept.items() if at == step)])


def plan(audit: Audit, applied: Mapping[str, Step]) -> Plan:
    """The step after `applied`, which says where namespaces stand.

    The audit is to be one under the policy that shall hold in the end. Where something could not be
    read, nothing more is refused: what is not known may break. Namespaces of `applied` that the
    audit says nothing of stay where they are.
    """
    refused: dict[str, list[WorkloadResult]] = {}
    for result in audit.workloads:
        found = refused.setdefault(result.namespace, [])
        if result.outcome == "refused":
            found.append(result)
    moves = tuple(
        Move(
            namespace=name,
            before=applied.get(name, ""),
            after=_after(applied.get(name, ""), bool(refused[name]), bool(audit.problems)),
            refused=tuple(refused[name]),
        )
        for name in sorted(refused)
    )
    kept = {name: step for name, step in applied.items() if name not in refused}
    return Plan(moves, tuple(audit.problems), kept)


def _after(before: Step, refused: bool, unsure: bool) -> Step:
    safe: Step = "Warn" if refused else "Deny"
    if unsure:
        safe = "Audit"
    return max(before, safe, key=STEPS.index)


def standing(policies: Iterable[Any]) -> dict[str, Step]:
    """Where namespaces stand, from HardeningPolicies as decoded objects; only ours count."""
    found: dict[str, Step] = {}
    for policy in policies:
        step = _step_of(policy)
        for name in _named(policy) if step else ():
            found[name] = max(found.get(name, ""), step, key=STEPS.index)
    return found


def _step_of(policy: Any) -> Step:
    metadata = policy.get("metadata") if isinstance(policy, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return next((step for step, own in NAMES.items() if own == name), "")


def _named(policy: Any) -> list[str]:
    value = policy
    for key in ("spec", "match", "namespaceSelector", "matchExpressions"):
        value = value.get(key) if isinstance(value, dict) else None
    names: list[str] = []
    for expression in value if isinstance(value, list) else ():
        if isinstance(expression, dict) and expression.get("key") == NAME_LABEL:
            names += [name for name in expression.get("values") or () if isinstance(name, str)]
    return names


# --- in words -----------------------------------------------------------------------------------


def text(planned: Plan) -> str:
    """YAML to review and apply, with comments that say why."""
    if not planned.moves:
        return "# No workloads were found: nothing to roll out to.\n"
    if planned.done:
        counted = len(planned.moves)
        said = f"# Nothing is left to do: Deny holds in all {counted} namespaces with workloads."
        held = [line for move in planned.moves if move.refused for line in _reasons(move)]
        return "\n".join([said, *held]) + "\n"
    lines = [
        "# The next step to enforcement. Nothing was applied: read it, apply it, and run",
        "# `batten rollout` again. A namespace goes from Audit to Warn to Deny, and never back.",
    ]
    lines += [
        f"# Not read, so that no more namespaces go on: {_comment(problem)}"
        for problem in planned.problems
    ]
    for move in planned.moves:
        lines += _reasons(move)
    documents = [
        _policy(step, planned.namespaces(step)) for step in NAMES if planned.namespaces(step)
    ]
    # A policy of an earlier step that names nobody any more has to go.
    left = {move.before for move in planned.moves if move.before} - {
        step for step in NAMES if planned.namespaces(step)
    }
    for step in sorted(left):
        lines.append(f"# Then: kubectl delete hardeningpolicy {NAMES[step]}")
    return "\n".join(lines) + "\n---\n" + "---\n".join(documents)


def _reasons(move: Move) -> list[str]:
    way = f"{move.before or 'no step'} → {move.after}" if move.before != move.after else "stays"
    if not move.refused:
        return ["#", f"# {_comment(move.namespace)}: {way}: nothing would be refused"]
    when = "would be refused when created again" if move.after == "Deny" else "mend before Deny"
    lines = ["#", f"# {_comment(move.namespace)}: {way}: {when}:"]
    for result in move.refused[:MOST_HELD]:
        lines.append(f"#   {result.kind} {_comment(result.name)}")
        lines += [
            f"#     {remark.rule}: {_comment(f'{remark.path}: {remark.remedy}')}"
            for remark in result.remarks
            if remark.outcome == "refused"
        ]
    if len(move.refused) > MOST_HELD:
        lines.append(f"#   … and {len(move.refused) - MOST_HELD} more: batten audit")
    return lines


def _comment(words: str) -> str:
    """On one line, whatever a name holds."""
    return words if words.isprintable() else words.encode("unicode_escape").decode()


def _policy(step: Step, namespaces: list[str]) -> str:
    names = "\n".join(f'            - "{name}"' for name in namespaces)
    return (
        "apiVersion: batten.dev/v1alpha1\n"
        "kind: HardeningPolicy\n"
        "metadata:\n"
        f"  name: {NAMES[step]}\n"
        "spec:\n"
        f"  priority: {PRIORITIES[step]}\n"
        "  match:\n"
        "    namespaceSelector:\n"
        "      matchExpressions:\n"
        f"        - key: {NAME_LABEL}\n"
        "          operator: In\n"
        "          values:\n"
        f"{names}\n"
        "  defaults:\n"
        f"    mutation: {'Enabled' if step == 'Deny' else 'DryRun'}\n"
        f"    validationActions: [{'Warn, Audit' if step == 'Warn' else step}]\n"
    )
