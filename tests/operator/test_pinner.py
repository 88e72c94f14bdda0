"""Who sees to revisions without digests: nobody's are held up by another's.

A scripted list and a scripted API server stand for a cluster; with a real one it is shown in
tests/pinning.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from batten_operator import pinner as module
from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.events import Events
from batten_operator.facts import ImageFacts
from batten_operator.pinner import MOST_FAILURES, Pinner
from batten_operator.policies import Policies
from batten_operator.scan import Page
from batten_webhooks.inquiry import Inquiry
from batten_webhooks.policy import PRESETS, Policy, observing
from batten_webhooks.rules.rule import Facts, Missing
from batten_webhooks.workload import TEMPLATE_PATHS

HARDENED = PRESETS["hardened"]
DIGEST = f"sha256:{'a' * 64}"


def replica_set(namespace: str, name: str, image: str = "registry.example/app:1") -> Object:
    metadata = {"namespace": namespace, "name": name, "uid": f"{namespace}/{name}"}
    template = {"spec": {"containers": [{"name": "app", "image": image}]}}
    return {"metadata": metadata, "spec": {"replicas": 1, "template": template}}


class Api(Cluster):
    def __init__(self, errors: dict[str, ApiError]) -> None:
        super().__init__()
        self.errors = errors
        self.written: list[str] = []

    async def merge(self, path: str, value: Object) -> Object:
        name = path.rpartition("/")[2]
        if name in self.errors:
            raise self.errors[name]
        self.written.append(name)
        return value


class Asked(ImageFacts):
    """Every image has DIGEST but those that are `away`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def gather(self, inquiry: Inquiry, seconds: float) -> Facts:
        self.asked += inquiry.pin
        found = (
            Missing("it does not answer") if "away" in text else DIGEST for text in inquiry.pin
        )
        return Facts(digests=dict(zip(inquiry.pin, found, strict=True)))


def rounds(
    monkeypatch: pytest.MonkeyPatch,
    revisions: list[Object],
    errors: dict[str, ApiError] | None = None,
    policy: Policy = HARDENED,
    count: int = 1,
) -> tuple[list[str], list[str]]:
    """What was written, and what was asked for."""

    class Listed:
        async def pages(self, path: str) -> AsyncIterator[Page]:
            items = revisions if path.endswith("/replicasets") else []
            yield Page(items=[json.dumps(each).encode() for each in items])  # type: ignore[misc]

    @asynccontextmanager
    async def reader() -> AsyncIterator[Any]:
        yield Listed()

    monkeypatch.setattr(module, "reader", reader)

    async def main() -> tuple[list[str], list[str]]:
        api, images, budget = Api(errors or {}), Asked(), WriteBudget(10_000.0)
        policies = Policies(policy, TEMPLATE_PATHS)
        events = Events(api, budget, "test")
        pinner = Pinner(api, policies, images, budget, frozenset(), events)
        for _ in range(count):
            await pinner.look()
        return api.written, images.asked

    return asyncio.run(main())


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500])
def test_one_that_cannot_be_written_keeps_no_other(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    revisions = [replica_set("a", "bad"), replica_set("b", "good")]
    errors = {"bad": ApiError("metadata.annotations: Too long", status)}
    assert rounds(monkeypatch, revisions, errors)[0] == ["good"]


def test_without_an_api_server_the_round_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ApiError):
        rounds(monkeypatch, [replica_set("a", "web")], {"web": ApiError("no answer")})


def test_one_namespace_keeps_no_other_from_its_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = [replica_set("a", f"h{n}", f"away{n}.example/app:1") for n in range(50)]
    written, asked = rounds(monkeypatch, [*hostile, replica_set("b", "good")])
    assert written == ["good"]
    assert len(asked) == MOST_FAILURES + 1


def test_what_failed_does_not_keep_what_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [replica_set("a", f"b{n}", f"away{n}.example/app:1") for n in range(5)]
    written, _ = rounds(monkeypatch, [*broken, replica_set("a", "good")], count=2)
    assert written == ["good"]


def test_who_observes_asks_no_registry_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = [replica_set("a", "web")]
    assert rounds(monkeypatch, revisions, policy=observing(HARDENED)) == ([], [])
