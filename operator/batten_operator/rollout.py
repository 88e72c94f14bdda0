"""`batten rollout` on a live cluster: its audit, and the steps that were applied to it."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from typing import Any

import msgspec

from batten_operator.audit import read
from batten_operator.cluster import ApiError
from batten_operator.scan import reader
from batten_webhooks.audit import Audit
from batten_webhooks.cli import CannotRun

POLICIES = "/apis/batten.dev/v1alpha1/hardeningpolicies"


def gather(options: Namespace) -> tuple[Audit, list[Any]]:
    """The audit and the cluster's HardeningPolicies as decoded objects. Raises CannotRun."""
    try:
        policies = asyncio.run(_policies(options.context))
    except ApiError as error:
        raise CannotRun(f"the HardeningPolicies cannot be read: {error}") from None
    return read(options), policies


async def _policies(context: str) -> list[Any]:
    """None where their CRD is not installed. Raises ApiError."""
    found: list[Any] = []
    async with reader(context) as opened:
        try:
            async for page in opened.pages(POLICIES):
                found += [msgspec.json.decode(item) for item in page.items or ()]
        except ApiError as error:
            if error.status != 404:
                raise
    return found
