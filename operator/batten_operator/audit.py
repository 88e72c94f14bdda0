"""`batten audit`: what the workloads of a live cluster would meet under a policy."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from contextlib import redirect_stdout
from importlib import import_module

from batten_operator.cluster import ApiError
from batten_operator.scan import (
    Scan,
    cluster_governance,
    governing_in,
    namespace_labels,
    reader,
)
from batten_webhooks.audit import Audit
from batten_webhooks.cli import CannotRun
from batten_webhooks.cli.judge import read_governance
from batten_webhooks.governance import EXEMPT, Governance
from batten_webhooks.policy import PRESETS
from batten_webhooks.rules import RULES
from batten_webhooks.selectors import Labels

BAR = 30


def run(options: Namespace) -> int:
    audit = read(options)
    write = import_module(f"batten_webhooks.cli.formats.audit_{options.format}").write
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file, redirect_stdout(file):
            write(audit, options)
    else:
        write(audit, options)
    return 1 if audit.totals()["refused"] else 0


def read(options: Namespace) -> Audit:
    """An audit of the live cluster, as the options ask for. Raises CannotRun."""
    governance = None if options.policy is None else read_governance(options.policy)
    try:
        return asyncio.run(_read(options, governance))
    except ApiError as error:
        raise CannotRun(f"the cluster cannot be read: {error}") from None


async def _read(options: Namespace, governance: Governance | None) -> Audit:
    """By the cluster's own policies and exceptions where no others are to be tried."""
    async with reader(options.context) as opened:
        if governance is None:
            governance = await cluster_governance(opened, PRESETS["hardened"])
        policies = [policy.policy for policy in governance.policies] + [governance.default]
        named = {setting.rule.name for policy in policies for setting in policy.settings}
        return await Scan(
            opened,
            await governing_in(opened, governance),
            tuple(rule.name for rule in RULES if rule.name in named),
            namespaces=options.namespace,
            exempt=frozenset() if options.all_namespaces else EXEMPT,
            progress=_show,
        ).run()


def governing(options: Namespace) -> tuple[Governance, dict[str, Labels]]:
    """What governs in the cluster, and the labels of its Namespaces. Raises CannotRun."""
    try:
        return asyncio.run(_governing(options.context))
    except ApiError as error:
        raise CannotRun(f"the cluster cannot be read: {error}") from None


async def _governing(context: str) -> tuple[Governance, dict[str, Labels]]:
    async with reader(context) as opened:
        governance = await cluster_governance(opened, PRESETS["hardened"])
        return governance, await namespace_labels(opened)


def _show(done: int, total: int) -> None:
    """A bar on stderr, where somebody watches; gone when all is read."""
    if not sys.stderr.isatty():
        return
    filled = BAR * done // total if total else BAR
    bar = "█" * filled + "░" * (BAR - filled)
    text = f"\r{bar} {done:,} of {total:,} Pods" if done < total else "\r\033[K"
    sys.stderr.write(text)
    sys.stderr.flush()
