"""For people: a table of namespaces and rules, then what would be refused, with the way out."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence

from batten_webhooks.audit import Audit, Counts, Outcome, WorkloadResult
from batten_webhooks.cli.formats.text import printable
from batten_webhooks.cli.terminal import Styled, styler

HEAD: tuple[Outcome, ...] = ("compliant", "changed", "warned", "excepted", "refused")


def write(audit: Audit, options: Namespace) -> None:
    styled = styler(options.color)
    counts = audit.by_rule()
    for namespace, totals in audit.by_namespace().items():
        print(styled("bold", f"{printable(namespace):34}") + _numbers(HEAD))
        print(_row("all rules", totals))
        for rule in audit.rules:
            row = counts[namespace, rule]
            if sum(row.values()) > row["compliant"]:
                print(_row(rule, row))
        print()
    for result in audit.workloads:
        if result.outcome == "refused":
            print("\n".join(_refused(result, styled)) + "\n")
    for problem in audit.problems:
        print(f"batten: not read: {printable(problem)}", file=sys.stderr)
    print(_summary(audit), file=sys.stderr)


def _row(name: str, counts: Counts) -> str:
    return f"  {name:32}" + _numbers(tuple(str(counts[outcome] or "·") for outcome in counts))


def _numbers(cells: Sequence[str]) -> str:
    return "".join(f"{cell:>10}" for cell in cells)


def _refused(result: WorkloadResult, styled: Styled) -> Iterator[str]:
    name = printable(f'{result.kind} "{result.name}" in {result.namespace}')
    yield styled("error", "refused") + f" {name}, by {printable(result.policy)}:"
    for remark in result.remarks:
        if remark.outcome != "refused":
            continue
        where = f'container "{printable(remark.container)}": ' if remark.container else ""
        yield f"  {remark.rule}: {where}{printable(remark.detail)}"
        yield f"    {printable(remark.path)}: {printable(remark.remedy)}"


def _summary(audit: Audit) -> str:
    totals = audit.totals()
    parts = [f"{totals[outcome]} {outcome}" for outcome in HEAD]
    pods = sum(result.pods for result in audit.workloads)
    return f"{len(audit.workloads)} workloads with {pods} Pods: {', '.join(parts)}"
