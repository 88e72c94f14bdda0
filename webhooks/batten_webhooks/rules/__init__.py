"""The rules, one file each. To add one: its file, its line in RULES, its fixtures."""

from __future__ import annotations

from batten_webhooks.rules import (
    apparmor_profile,
    default_proc_mount,
    drop_capabilities,
    graceful_shutdown,
    masked_proc_mount,
    misplaced_field,
    no_added_capabilities,
    no_host_namespaces,
    no_host_path,
    no_host_ports,
    no_host_probes,
    no_host_process,
    no_latest_tag,
    no_literal_secrets,
    no_privilege_escalation,
    no_privileged,
    no_unconfined_seccomp,
    pinned_digest,
    probes,
    read_only_root_filesystem,
    resources,
    run_as_non_root,
    safe_selinux_options,
    safe_sysctls,
    safe_volume_types,
    seccomp_profile,
    service_account_token,
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
    pinned_digest.RULE,
    no_privileged.RULE,
    no_host_namespaces.RULE,
    no_host_path.RULE,
    no_host_ports.RULE,
    no_host_probes.RULE,
    no_host_process.RULE,
    no_added_capabilities.RULE,
    no_unconfined_seccomp.RULE,
    apparmor_profile.RULE,
    safe_selinux_options.RULE,
    safe_sysctls.RULE,
    default_proc_mount.RULE,
    masked_proc_mount.RULE,
    safe_volume_types.RULE,
    resources.RULE,
    probes.RULE,
    no_literal_secrets.RULE,
    service_account_token.RULE,
)

BY_NAME = {rule.name: rule for rule in RULES}
