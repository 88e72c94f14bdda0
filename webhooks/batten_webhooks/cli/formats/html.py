"""For reading and showing around: one self-contained HTML file, without a request to anywhere.

Names in it were chosen by whoever may create objects: every value is escaped, what does not print
is spelled out, and the Content-Security-Policy admits only the file's own style and script.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from batten_webhooks.audit import OUTCOMES, Audit, Outcome, Remark, WorkloadResult, by_rule
from batten_webhooks.rules import BY_NAME

WORST_FIRST: tuple[Outcome, ...] = OUTCOMES[::-1]
RANK = {outcome: rank for rank, outcome in enumerate(WORST_FIRST)}
LABELS: dict[Outcome, str] = {
    "refused": "Refused",
    "excepted": "Excepted",
    "warned": "Warned",
    "changed": "Changed",
    "compliant": "Compliant",
}
MEANINGS: dict[Outcome, str] = {
    "refused": "Pods would be denied",
    "excepted": "let in by a HardeningException",
    "warned": "let in with a warning",
    "changed": "made safe at admission",
    "compliant": "nothing to do",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: what is counted, and its workloads by their outcome."""

    name: str
    note: str
    counts: Counter[Outcome]

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def severity(self) -> tuple[int, ...]:
        """To sort by, worst first."""
        return tuple(-self.counts[outcome] for outcome in WORST_FIRST)

    @property
    def bar(self) -> list[tuple[Outcome, float, float]]:
        """The parts of a bar 100 wide: outcome, start and width."""
        parts, start = [], 0.0
        for outcome in WORST_FIRST:
            width = 100 * self.counts[outcome] / (self.total or 1)
            if width:
                parts.append((outcome, round(start, 3), round(width, 3)))
            start += width
        return parts


def render(audit: Audit) -> str:
    """The whole document."""
    by_namespace: dict[str, list[WorkloadResult]] = {}
    for workload in audit.workloads:
        by_namespace.setdefault(workload.namespace, []).append(workload)
    rules = _rules(audit)
    style, script = _asset("html.css"), _asset("html.js")
    return _template().render(
        audit=audit,
        version=version("batten"),
        overall=Row("", "", _counted(audit.workloads)),
        pods=sum(workload.pods for workload in audit.workloads),
        namespaces=sorted(
            (Row(name, "", _counted(found)) for name, found in by_namespace.items()),
            key=lambda row: (row.severity, row.name),
        ),
        rules=[row for row in rules if row.total],
        kept=[row.name for row in rules if not row.total],
        groups=[(name, _worst_first(by_namespace[name])) for name in sorted(by_namespace)],
        outcomes=WORST_FIRST,
        labels=LABELS,
        meanings=MEANINGS,
        rule_outcomes=by_rule,
        worst_remarks_first=_worst_remarks_first,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _rules(audit: Audit) -> list[Row]:
    """Every rule that was asked or spoke, the one that stands most in the way first."""
    counts: dict[str, Counter[Outcome]] = {name: Counter() for name in audit.rules}
    for workload in audit.workloads:
        for rule, outcome in by_rule(workload).items():
            counts.setdefault(rule, Counter())[outcome] += 1
    rows = (
        Row(name, BY_NAME[name].summary if name in BY_NAME else "", counted)
        for name, counted in counts.items()
    )
    return sorted(rows, key=lambda row: (row.severity, row.name))


def _worst_remarks_first(remarks: Iterable[Remark]) -> list[Remark]:
    return sorted(remarks, key=lambda remark: (RANK[remark.outcome], remark.rule))


def _worst_first(workloads: Iterable[WorkloadResult]) -> list[WorkloadResult]:
    return sorted(workloads, key=lambda found: (RANK[found.outcome], found.name, found.kind))


def _counted(workloads: Sequence[WorkloadResult]) -> Counter[Outcome]:
    return Counter(workload.outcome for workload in workloads)


def _visible(value: Any) -> Any:
    """Text with what does not print, or turns the direction of writing, spelled out."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in value
    )


def _hash(text: str) -> str:
    """As a source in a Content-Security-Policy (CSP Level 3, section 2.3.1)."""
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").strip()


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.from_string(_asset("html.jinja"))
