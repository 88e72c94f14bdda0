"""What is measured, in rounds in which all take turns, so that what else the machine does meets
all alike."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench import client, reviews
from bench.client import BadAnswer, Connection, Review, Target
from bench.peers import pods
from bench.peers.cluster import Cluster
from bench.peers.contenders import ALLOWS, Contender
from bench.peers.load import paced
from bench.peers.pods import Object
from bench.servers import Server

CONNECTIONS = 25  # as many as kube-apiserver keeps to one host
FEW, APPLYING = 2, 64
RATES = (25, 100, 500, 1000)
REPLICAS = (1, 3)
NOBODY = "none"  # the namespace that nobody is asked about
# A rate is reached when that share of it is.
REACHED = 0.9
QUIET_SECONDS = 5.0


@dataclass
class Served:
    """Of one webhook under as many reviews as it takes; `cpu` is in µs a review."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Applied:
    """Of one rate through the API server. `cpu` is in µs an apply, of the API server and of whom
    it asks."""

    reached: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    failed: int = 0


async def straight(
    server: Server, target: Target, seconds: float, into: Served, connections: int = CONNECTIONS
) -> None:
    """As fast as it answers. Raises BadAnswer."""
    async with client.connected(target, connections) as opened:
        used, started = server.processor_seconds(), time.perf_counter()
        answered = await client.flood(opened, target, seconds)
        into.rates.append(answered / (time.perf_counter() - started))
        into.cpu.append((server.processor_seconds() - used) / answered * 1e6)


def reviewed(contender: Contender, server: Server, webhook: str, body: bytes) -> Review:
    if webhook == "mutate":
        return Review(server.port, server.trust, contender.mutate, body, contender.tells)
    return Review(server.port, server.trust, contender.validate, body, ALLOWS)


def usual_reviews() -> dict[str, bytes]:
    """Of the reference Pod as it comes, and as `mutate` leaves it."""
    hardened = reviews.hardened().replace(b'"dryRun":false', b'"dryRun":true')
    return {"mutate": reviews.review(reviews.pod(), dry_run=True), "validate": hardened}


@dataclass(frozen=True)
class Route:
    """A namespace, and who is asked about its Pods: so many replicas of a contender's."""

    name: str
    namespace: str
    servers: tuple[Server, ...] = ()

    @property
    def replicas(self) -> int:
        return max(1, len(self.servers))


class Applying:
    """Rates that were not reached are not exceeded later."""

    def __init__(self, cluster: Cluster, routes: Sequence[Route]) -> None:
        self._cluster = cluster
        self._routes = routes
        self._pod = pods.usual()
        self._most: dict[Route, int] = dict.fromkeys(routes, max(RATES))
        self.found: dict[tuple[str, int, int], Applied] = {}

    async def round(self, seconds: float) -> None:
        anybody = self._cluster.create(NOBODY, self._pod)
        async with client.connected(anybody, APPLYING) as opened:
            for rate in RATES:
                for route in self._routes:
                    if rate <= self._most[route]:
                        await self._apply(route, opened, rate, seconds)

    async def _apply(
        self, route: Route, opened: list[Connection], rate: int, seconds: float
    ) -> None:
        processes = (self._cluster.api, *route.servers)
        target = self._cluster.create(route.namespace, self._pod)
        told = await paced(target, opened, rate, seconds, partial(_used, processes))
        into = self.found.setdefault((route.name, route.replicas, rate), Applied())
        into.failed += told.failed
        into.reached.append(round(told.reached, 1))
        into.p50.append(round(told.centile(50), 2))
        into.p99.append(round(told.centile(99), 2))
        into.cpu.append(round(told.used / max(1, len(told.latencies)) * 1e6))
        if told.reached < REACHED * rate:
            self._most[route] = rate
            await quiet(processes)


def _used(processes: Iterable[Server]) -> float:
    return sum(each.processor_seconds() for each in processes)


async def quiet(processes: Iterable[Server], seconds: float = QUIET_SECONDS) -> None:
    """Until what was asked too much has been worked off, at most so many seconds."""
    kept = list(processes)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = _used(kept)
        await asyncio.sleep(0.3)
        if _used(kept) - before < 0.03:
            return


async def growth(
    cluster: Cluster, contender: Contender, server: Server | None, pod: Object, seconds: float
) -> float | None:
    """CPU of one mutation in ms, None where none is answered; of the API server's own policies, all
    that an apply costs more. Few at once: the largest take seconds."""
    try:
        if server is None:
            added = await _created(cluster, contender.namespace(1), pod, seconds)
            return added - await _created(cluster, NOBODY, pod, seconds)
        served = Served()
        target = reviewed(contender, server, "mutate", pods.review(pod))
        await straight(server, target, seconds, served, FEW)
    except BadAnswer:
        return None
    return served.cpu[0] / 1000


async def _created(cluster: Cluster, where: str, pod: Object, seconds: float) -> float:
    api, target = cluster.api, cluster.create(where, pod)
    async with client.connected(target, FEW) as opened:
        used = api.processor_seconds()
        answered = await client.flood(opened, target, seconds)
        return (api.processor_seconds() - used) / answered * 1e3


def pin(server: Server, cores: Iterable[int]) -> None:
    """Every thread; those to come have what their makers have."""
    for thread in os.listdir(f"/proc/{server.pid}/task"):
        os.sched_setaffinity(int(thread), set(cores))
