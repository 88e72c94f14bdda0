"""The way between Batten and the API server is cut: by resets, and by silence."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest
from batten_chaos import WEBHOOK, Stage, fault, measured
from batten_e2e import deployment, eventually

from batten_operator import cluster as module
from batten_operator.cluster import Cluster
from batten_operator.informer import Informer, Key

pytestmark = pytest.mark.cluster
BOTH = (WEBHOOK, "controller")
POLICIES = "batten_policies"


def known(batten: Stage, count: int, seconds: float = 90) -> None:
    """Until both have read so many policies."""
    for name in BOTH:
        eventually(
            lambda name=name: batten.metric(name, POLICIES) == count or None,  # type: ignore[misc]
            f"{name} knows {count} policies",
            seconds,
        )


@fault(
    "watch connections cut, five times",
    webhooks="answer on; watches are begun anew, and what changed meanwhile is read",
    controller="leads on",
)
def test_connections_are_cut(batten: Stage) -> None:
    traffic = batten.traffic()
    with traffic.flowing():
        for number in range(5):
            for way in batten.ways.values():
                way.cut()
            batten.govern(f"cut-{number}")
            time.sleep(0.5)
        cut = time.monotonic()
        known(batten, 5)
        batten.renewed(batten.lease()["renewTime"])
        seconds = time.monotonic() - cut
    traffic.right()
    assert not traffic.count()["failed"], traffic.errors
    batten.calm(*BOTH)
    measured(test_connections_are_cut, seconds, traffic.words(), "nothing")


@fault(
    "network cut for 20 s, and connections forgotten",
    webhooks="answer on by what they know; what was changed or deleted meanwhile governs as it is"
    " once the watch has been silent for 70 s",
    controller="leaves the Lease after 8 s, and leads again",
)
def test_the_network_is_silent(batten: Stage) -> None:
    traffic = batten.traffic()
    with traffic.flowing():
        with ExitStack() as silent:
            for way in batten.ways.values():
                silent.enter_context(way.silence())
            batten.kubectl("delete", "hardeningpolicy", "cut-0").require()
            batten.namespace.apply(deployment("silence")).require()
            time.sleep(20)
        back = time.monotonic()
        batten.renewed(batten.lease()["renewTime"])
        known(batten, 4)
        seconds = time.monotonic() - back
    traffic.right()
    assert not traffic.count()["failed"], traffic.errors
    batten.reports_of({"silence"})
    batten.calm(*BOTH)
    measured(test_the_network_is_silent, seconds, traffic.words(), "nothing")


def test_a_watch_that_leads_nowhere_is_begun_anew(
    batten: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scans are followed by informers of our own; here they wait for a word for 3 s, not 70."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 3.0)
    monkeypatch.setenv("KUBECONFIG", str(batten.kubeconfig("controller")))

    async def follow() -> None:
        told = asyncio.Event()

        def taken(key: Key, _: object) -> None:
            if key[1] == "meanwhile":
                told.set()

        cluster = Cluster()
        path = "/apis/batten.dev/v1alpha1/hardeningpolicies"
        informer = Informer(cluster, path, taken, lambda _: None)
        following = asyncio.create_task(informer.run())
        async with asyncio.timeout(40):
            await informer.listed.wait()
        await asyncio.sleep(1)
        with batten.ways["controller"].silence():
            await asyncio.to_thread(batten.govern, "meanwhile")
            await asyncio.sleep(1)
        async with asyncio.timeout(40):
            await told.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await cluster.close()

    asyncio.run(follow())
