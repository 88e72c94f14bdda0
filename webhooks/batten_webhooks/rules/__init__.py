"""The rules, one file each. To add one: its file, its line in RULES, its fixtures."""

from __future__ import annotations

from batten_webhooks.rules import (
    drop_capabilities,
    graceful_shutdown,
    misplaced_field,
    no_latest_tag,
    no_privilege_escalation,
    read_only_root_filesystem,
    run_as_non_root,
    seccomp_profile,
    writable_tmp,
)
from batten_webhooks.rules.rule import Rule

# In the order in which their changes are made and their violations are told.
RULES: tuple[Rule, ...] = (
    misplaced_field.RULE,
    run_as_non_root.RULE,
    drop_capabilities.RULE,
    no_privilege_escalation.RULE,
    seccomp_profile.RULE,
    read_only_root_filesystem.RULE,
    writable_tmp.RULE,
    graceful_shutdown.RULE,
    no_latest_tag.RULE,
)

BY_NAME = {rule.name: rule for rule in RULES}
