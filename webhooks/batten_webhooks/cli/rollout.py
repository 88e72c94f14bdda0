"""`batten rollout`: the next safe step to enforcement, as policies to review and apply."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from batten_webhooks import rollout
from batten_webhooks.audit import Audit
from batten_webhooks.cli import CannotRun, command_module
from batten_webhooks.cli.files import read_argument
from batten_webhooks.cli.formats import audit_json
from batten_webhooks.messages import printable
from batten_webhooks.policy import PRESETS

# What the policies that are printed demand.
PRESET = "hardened"


def run(options: Namespace) -> int:
    audit, applied = _from_file(options) if options.audit else _from_cluster(options)
    if options.applied:
        applied = _documents(options.applied)
    sys.stdout.write(rollout.text(rollout.plan(audit, rollout.standing(applied))))
    return 0


def _from_cluster(options: Namespace) -> tuple[Audit, list[Any]]:
    found: tuple[Audit, list[Any]] = command_module("batten_operator.rollout").gather(options)
    return found


def _from_file(options: Namespace) -> tuple[Audit, list[Any]]:
    try:
        audit = audit_json.read(read_argument("--from", options.audit))
    except audit_json.NotAnAudit as error:
        raise CannotRun(f"--from {options.audit}: {error}") from None
    # The policies that are printed demand what this preset does: another audit tells nothing of it.
    title = PRESETS[PRESET].title
    for result in audit.workloads:
        if result.policy != title:
            raise CannotRun(
                f"--from {options.audit}: was judged by {printable(result.policy)}, "
                f"not by {title}: make it with batten audit --policy {PRESET} --format json"
            )
    return audit, []


def _documents(name: str) -> list[Any]:
    from batten_webhooks.manifests import (  # noqa: PLC0415 - PyYAML takes its time
        Manifest,
        ManifestError,
    )

    try:
        manifest = Manifest.parse(read_argument("--applied", name), name=name)
    except ManifestError as error:
        raise CannotRun(f"--applied {name}:{error}") from None
    return [document.value for document in manifest.documents]
