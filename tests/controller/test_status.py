"""Statuses are of what was read, whatever is read meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

from batten_operator import status
from batten_operator.budget import WriteBudget
from batten_operator.cluster import Cluster
from batten_operator.policies import EXCEPTIONS, POLICIES, Policies
from batten_webhooks.audit import Audit
from batten_webhooks.policy import PRESETS
from batten_webhooks.workload import TEMPLATE_PATHS

FAR = "2999-01-01T00:00:00Z"
GRANTED = {
    "match": {"namespaces": ["shop"]},
    "rules": ["probes"],
    "reason": "moves in spring",
    "expires": FAR,
}


def ours(kind: str, name: str, spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": name, "generation": 1}
    return {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


class Changing:
    """Stands for an API server whose watch tells of an object between two of our own calls."""

    def __init__(self) -> None:
        self.items: dict[str, list[Any]] = {POLICIES: [], EXCEPTIONS: []}
        self.written: dict[str, Any] = {}
        self.policies: Policies | None = None

    async def get(self, path: str) -> Any:
        plural = path.rpartition("/")[2]
        if self.policies is not None:
            policies, self.policies = self.policies, None
            self.items[POLICIES] = [ours("HardeningPolicy", "late", {"priority": 5})]
            self.items[EXCEPTIONS] = [ours("HardeningException", "late", GRANTED)]
            await policies._look()
        return {"items": self.items[plural]}

    async def replace(self, path: str, value: Any) -> None:
        self.written[path] = value["status"]


def test_what_is_read_while_statuses_are_written_has_a_right_one() -> None:
    async def main() -> dict[str, Any]:
        server = Changing()
        cluster = cast(Cluster, server)
        policies = Policies(PRESETS["hardened"], TEMPLATE_PATHS, cluster)
        await policies._look()
        server.policies = policies
        audit = Audit("", datetime.now(UTC))
        await status.write(cluster, WriteBudget(100), policies, audit, datetime.now().timestamp())
        return server.written

    written = asyncio.run(main())
    conditions = {
        path.split("/")[-3]: {each["type"]: each["status"] for each in value["conditions"]}
        for path, value in written.items()
    }
    assert conditions == {
        POLICIES: {"Accepted": "True", "Conflict": "False"},
        EXCEPTIONS: {"Accepted": "True", "ExpiresSoon": "False", "Expired": "False"},
    }
