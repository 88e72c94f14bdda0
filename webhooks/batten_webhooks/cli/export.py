"""`batten export`: a policy in a form that API servers enforce by themselves."""

from __future__ import annotations

import sys
from argparse import Namespace

from batten_webhooks.cli.judge import read_governing_files, read_policy
from batten_webhooks.export import vap
from batten_webhooks.governance import EXEMPT
from batten_webhooks.messages import printable


def run(options: Namespace) -> int:
    import yaml  # noqa: PLC0415 - takes its time

    exported = vap(read_policy(options.policy), EXEMPT | set(options.exempt))
    yaml.safe_dump_all(exported.manifests, sys.stdout, sort_keys=False, width=100)
    if exported.left_out:
        _tell(f"CEL cannot say, so that nothing holds: {', '.join(exported.left_out)}")
    if options.exceptions:
        governance, _ = read_governing_files(options.exceptions)
        for exemption in governance.exemptions:
            rules = ", ".join(sorted(exemption.rules))
            _tell(
                f'HardeningException "{printable(exemption.name)}": left out, for CEL has no clock:'
                f" {rules} will hold for it, too"
            )
    return 0


def _tell(line: str) -> None:
    print(f"batten: {line}", file=sys.stderr)
