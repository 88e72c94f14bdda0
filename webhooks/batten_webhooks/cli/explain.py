"""`batten explain`: a rule's own documentation."""

from __future__ import annotations

import difflib
from argparse import Namespace

from batten_webhooks.cli import CannotRun, rules
from batten_webhooks.rules import BY_NAME


def run(options: Namespace) -> int:
    if options.rule is None:
        return rules.run(options)
    rule = BY_NAME.get(options.rule)
    if rule is None:
        close = difflib.get_close_matches(options.rule, BY_NAME, n=1)
        hint = f"did you mean {close[0]}?" if close else "`batten rules` lists them"
        raise CannotRun(f"no rule is named {options.rule!r}: {hint}")
    actions = ", ".join(sorted(rule.actions))
    mutation = "changes Pods" if rule.mutates else "changes nothing"
    print(f"{rule.name} ({rule.level}; {mutation}; {actions})\n\n{rule.doc.strip()}")
    return 0
