"""Who may have the controller read pull secrets, start Jobs and vouch for what they find: the
webhooks alone. The cluster stands for one in which somebody changes an object meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from batten_scans import AMD64, evidence

from batten_operator.budget import WriteBudget
from batten_operator.cluster import Cluster, Object
from batten_operator.events import Events
from batten_operator.scan_requests import request
from batten_operator.scanner import ScanFailed, Scanner
from batten_operator.stored_scans import StoredScans
from batten_webhooks.authorship import WRITTEN_BY
from batten_webhooks.images.keyring import Keyring
from batten_webhooks.inquiry import WantedScan

NAMESPACE = "batten-system"
OURS = f"system:serviceaccount:{NAMESPACE}:batten"
OTHERS = [
    "",
    "jane",
    "system:serviceaccount:ci:scanner",
    f"system:serviceaccount:{NAMESPACE}-evil:batten",
    f"system:serviceaccount:evil:system:serviceaccount:{NAMESPACE}:batten",
]


def asked(author: str) -> Object:
    wanted = WantedScan(
        "registry.example/private/app:1", AMD64.manifest, AMD64, "trivy", "victim", ("pull",)
    )
    value = request(wanted)
    annotations = {WRITTEN_BY: author} if author else {}
    return {**value, "metadata": {**value["metadata"], "annotations": annotations}}


def requests_of(author: str) -> list[str]:
    scans, value = StoredScans(Cluster(), NAMESPACE), asked(author)
    scans._take("ImageScan", ("", value["metadata"]["name"]), value)
    return [each.image for each in scans.requests.values()]


def test_the_webhooks_ask_for_scans() -> None:
    assert requests_of(OURS) == ["registry.example/private/app:1"]


@pytest.mark.parametrize("author", OTHERS)
def test_nobody_else_does(author: str) -> None:
    assert requests_of(author) == []


class Changed(Cluster):
    """Of one ImageScan, which `author` wrote last."""

    def __init__(self, author: str) -> None:
        super().__init__()
        self.held = asked(author)
        self.written: list[Object] = []

    async def get(self, path: str) -> Object:
        return self.held

    async def replace(self, path: str, value: Object) -> Object:
        self.written.append(value)
        return value


@pytest.mark.parametrize("author", [OURS, *OTHERS])
def test_nothing_is_vouched_for_in_what_others_changed_meanwhile(author: str) -> None:
    cluster = Changed(author)

    async def none(*_: Any) -> Keyring:
        return Keyring(())

    budget = WriteBudget(1000.0)
    scans = StoredScans(cluster, NAMESPACE)
    events = Events(cluster, budget, "test")
    scanner = Scanner(cluster, NAMESPACE, scans, budget, events, none, lambda _: False)
    name = cluster.held["metadata"]["name"]
    found = evidence(now=1_780_000_000.0)
    if author == OURS:
        asyncio.run(scanner._write(name, {"phase": "Complete"}, found))
        assert cluster.written[0]["spec"]["scanner"] == {"name": "trivy"}
    else:
        with pytest.raises(ScanFailed, match="changed by somebody else"):
            asyncio.run(scanner._write(name, {"phase": "Complete"}, found))
        assert cluster.written == []


def test_one_namespace_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """With images that take long, or fail, and whose digests come first."""
    cluster = Cluster()
    scans = StoredScans(cluster, NAMESPACE)

    def ask(name: str, namespace: str) -> None:
        value = asked(OURS)
        value["metadata"]["name"] = name
        value["spec"]["request"]["namespace"] = namespace
        scans._take("ImageScan", ("", name), value)

    async def none(*_: Any) -> Keyring:
        return Keyring(())

    async def look() -> list[list[str]]:
        budget = WriteBudget(1000.0)
        events = Events(cluster, budget, "test")
        scanner = Scanner(cluster, NAMESPACE, scans, budget, events, none, lambda _: False)
        ended = asyncio.Event()

        async def scan(_: Any) -> None:
            await ended.wait()

        monkeypatch.setattr(scanner, "_scan", scan)
        started = []
        for _ in range(2):
            ended.clear()
            scanner._look()
            started.append(sorted(scanner._running))
            for name in scanner._running:
                scans._gone("ImageScan", ("", name))
            ended.set()
            await asyncio.sleep(0.01)
        return started

    for number in range(9):
        ask(f"a-{number}", "evil")
    ask("z-1", "good")
    ask("z-2", "better")
    assert asyncio.run(look()) == [["a-0", "z-1", "z-2"], ["a-1", "a-2", "a-3"]]
