"""`batten export`: a policy in a form that API servers enforce by themselves."""

from __future__ import annotations

import sys
from argparse import Namespace

from batten_webhooks.cli import CannotRun
from batten_webhooks.cli.files import read_argument
from batten_webhooks.cli.judge import read_governing_files, read_objects_of
from batten_webhooks.export import vap
from batten_webhooks.governance import EXEMPT, GoverningPolicy
from batten_webhooks.messages import printable
from batten_webhooks.policy import PRESETS


def run(options: Namespace) -> int:
    import yaml  # noqa: PLC0415 - takes its time

    governing = _governing(options.policy)
    files = [(name, read_argument("--exceptions", name)) for name in options.exceptions]
    exemptions = read_objects_of(files).exemptions if files else ()
    exported = vap(governing, EXEMPT | set(options.exempt))
    yaml.safe_dump_all(exported.manifests, sys.stdout, sort_keys=False, width=100)
    if exported.left_out:
        left_out = ", ".join(exported.left_out)
        _tell(f"left out, for they change Pods or look beyond what CEL can say: {left_out}")
    for exemption in exemptions:
        rules = ", ".join(sorted(exemption.rules))
        _tell(
            f'HardeningException "{printable(exemption.name)}": left out, for CEL has no clock:'
            f" {rules} will hold for it, too"
        )
    return 0


def _governing(name: str) -> GoverningPolicy:
    """Raises CannotRun."""
    if name in PRESETS:
        return GoverningPolicy("", PRESETS[name])
    policies = read_governing_files([name])[0].policies
    if len(policies) != 1:
        held = f"{len(policies)} HardeningPolicies: export one file at a time, with one policy each"
        raise CannotRun(f"--policy {name}: holds {held if policies else 'no HardeningPolicy'}")
    return policies[0]


def _tell(line: str) -> None:
    print(f"batten: {line}", file=sys.stderr)
