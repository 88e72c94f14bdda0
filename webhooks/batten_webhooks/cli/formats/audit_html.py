"""For reading and showing around: a page of its own."""

from __future__ import annotations

import sys
from argparse import Namespace

from batten_webhooks.audit import Audit
from batten_webhooks.cli.formats.html import render


def write(audit: Audit, _: Namespace) -> None:
    sys.stdout.write(render(audit))
