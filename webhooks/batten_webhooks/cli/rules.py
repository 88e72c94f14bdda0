"""`batten rules`: the rules in a table."""

from __future__ import annotations

from argparse import Namespace

from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import Rule


def run(_: Namespace) -> int:
    rows = [("RULE", "LEVEL", "CHANGES", "ACTIONS", "WHAT HOLDS"), *map(_row, RULES)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[4]]))
    return 0


def _row(rule: Rule) -> tuple[str, str, str, str, str]:
    changes = "yes" if rule.mutates else "no"
    return rule.name, rule.level, changes, ",".join(sorted(rule.actions)), rule.summary
