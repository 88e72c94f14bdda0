"""The rules, one file each. To add one: its file, its line in RULES, its fixtures."""

from __future__ import annotations

from batten_webhooks.rules import read_only_root_filesystem
from batten_webhooks.rules.rule import Rule

RULES: tuple[Rule, ...] = (read_only_root_filesystem.RULE,)

BY_NAME = {rule.name: rule for rule in RULES}
