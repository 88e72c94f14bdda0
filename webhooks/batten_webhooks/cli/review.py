"""`batten review`: an AdmissionReview from standard input, answered as the webhook would."""

from __future__ import annotations

import sys
from argparse import Namespace

from batten_webhooks.cli import CannotRun
from batten_webhooks.cli.judge import read_kinds, read_policy
from batten_webhooks.review import BadReview, respond, under

# As the webhooks' server: larger reviews are refused there, too.
LARGEST_REVIEW = 8 * 1024 * 1024


def run(options: Namespace) -> int:
    """0 where the request is allowed, 1 where it is denied."""
    policy, kinds = read_policy(options.policy), read_kinds(options.kinds)
    body = sys.stdin.buffer.read(LARGEST_REVIEW + 1)
    if len(body) > LARGEST_REVIEW:
        raise CannotRun("the review has more than 8 MiB")
    try:
        answer = respond(options.webhook, body, under(policy, paths=kinds))
    except BadReview as error:
        raise CannotRun(f"HTTP {error.status}: {error}") from None
    sys.stdout.buffer.write(answer.body + b"\n")
    return 0 if answer.allowed else 1
