"""`python -m bench.peers`: Batten beside others, on one API server, in one run.

What was not built yet is built first, from Go modules: Kyverno alone takes ten minutes and more.
The figures go to bench/peers/results.json, and `python -m bench.peers.page` writes
docs/performance.md from them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from batten_cluster import ClusterError, ControlPlane
from batten_tools import ToolError, asked_version, full_version

from bench.client import BadAnswer, connected
from bench.peers import checks, measure, pods
from bench.peers.cluster import NAMESPACE, PRIORITY_CLASS, Cluster, namespace
from bench.peers.contenders import CONTENDERS, MUTATES, Contender
from bench.peers.measure import NOBODY, REPLICAS, Applying, Route, Served
from bench.peers.programs import PROGRAMS, SYSTEM, Site, authority
from bench.servers import Server, trusting

RESULTS = Path(__file__).parent / "results.json"
START_SECONDS = 60.0
# By what grows, by whom and by how much.
Growth = dict[str, dict[str, dict[str, float | None]]]


@dataclass(frozen=True)
class Effort:
    """`seconds` are of each measurement; there are some two hundred in a round."""

    rounds: int
    seconds: float
    policies: tuple[int, ...] = (1, 10, 100)
    containers: tuple[int, ...] = (1, 10, 50)
    kilobytes: tuple[int, ...] = (0, 10, 100, 1000)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.peers", description=__doc__)
    parser.add_argument("--only", default="", help="of these, separated by commas: " + _names())
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it works")
    parser.add_argument("--no-build", action="store_true", help="leave out what was not built")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.rounds < 1 or not 0 < options.seconds < 3600:
        parser.error("--rounds must be 1 or more, and --seconds more than 0 and less than 3600")
    effort = Effort(options.rounds, options.seconds)
    if options.quick:
        effort = Effort(1, 0.3, (1, 2), (1, 2), (0, 10))
    try:
        contenders = _chosen(options.only, build=not options.no_build)
        result = _run(contenders, effort)
    except (ClusterError, ToolError) as error:
        print(f"bench.peers: {error}", file=sys.stderr)
        return 1
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    say(f"written to {options.output.name}")
    return 0


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _names() -> str:
    return ", ".join(each.name for each in CONTENDERS)


def _chosen(only: str, *, build: bool) -> list[Contender]:
    wanted = set(filter(None, only.split(",")))
    unknown = wanted - {each.name for each in CONTENDERS}
    if unknown:
        raise ToolError(f"--only {min(unknown)}: is none of {_names()}")
    chosen = [each for each in CONTENDERS if not wanted or each.name in wanted]
    there = []
    for each in chosen:
        if each.program and not PROGRAMS[each.program].there(build=build):
            say(f"{each.title}: was not built, left out")
        else:
            there.append(each)
    return there


def _run(contenders: list[Contender], effort: Effort) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    with TemporaryDirectory(prefix="batten-peers-") as name, _cluster(Path(name)) as site:
        runner = _Run(site, contenders, effort, cores)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            return loop.run(runner.run())


@contextmanager
def _cluster(folder: Path) -> Iterator[Site]:
    store = authority()
    (folder / "tls.crt").write_bytes(store.serving.certificate)
    (folder / "tls.key").write_bytes(store.serving.key)
    plane = ControlPlane(
        folder / "cluster",
        apiserver_arguments=(
            "--enable-aggregator-routing=true",
            *("--audit-policy-file=", "--audit-log-path="),  # its cost is nobody's here
        ),
        controllers=False,
    )
    with plane:
        cluster = Cluster(plane, store.bundle)
        cluster.apply([PRIORITY_CLASS, *map(namespace, (NAMESPACE, SYSTEM, NOBODY, "shop"))])
        core = max(os.sched_getaffinity(0))
        yield Site(cluster, store, folder, core, trusting(store.bundle))


class _Run:
    def __init__(
        self, site: Site, contenders: list[Contender], effort: Effort, cores: list[int]
    ) -> None:
        self._site, self._cluster = site, site.cluster
        self._contenders = contenders
        self._effort = effort
        self._cores = cores
        self._reviews = measure.usual_reviews()
        self._programs = list(dict.fromkeys(each.program for each in contenders if each.program))

    async def run(self) -> dict[str, Any]:
        await self._start()
        idle = self._resident()
        outcomes = self._check()
        await self._more_replicas()
        served, applied = await self._rounds()
        loaded = self._resident()
        self._end_replicas()
        grown = await self._grown()
        return {
            "machine": {
                "cores": len(self._cores),
                "architecture": platform.machine(),
                "python": platform.python_version(),
                "kubernetes": full_version(asked_version()),
            },
            "effort": {"rounds": self._effort.rounds, "seconds": self._effort.seconds},
            "versions": {name: PROGRAMS[name].version for name in self._programs},
            "contenders": {
                each.name: {"title": each.title, "program": each.program}
                for each in self._contenders
            },
            "checks": outcomes,
            "memory": {
                name: {"idle": round(idle[name], 1), "loaded": round(loaded[name], 1)}
                for name in self._programs
            },
            "straight": served,
            "applied": applied,
            "growth": grown,
        }

    # --- set up ---------------------------------------------------------------------------------

    async def _start(self) -> None:
        for name in self._programs:
            say(f"starting {name}")
            PROGRAMS[name].prepare(self._cluster, self._site.store)
            self._site.start(PROGRAMS[name])
        for contender in self._contenders:
            await self._ready(contender, policies=True)
            if contender.program:
                ports = [self._site.servers[contender.program][0].port]
                self._route(contender, ports)
            else:
                self._cluster.apply([namespace(contender.namespace(1))])
        await asyncio.sleep(2)  # the API server follows configurations by a watch
        for contender in self._contenders:
            if contender.tells == MUTATES:
                await self._hardens(contender)

    async def _hardens(self, contender: Contender) -> None:
        """Until every part of its policies is in force. Raises ClusterError."""
        deadline = time.monotonic() + START_SECONDS
        kubectl, where = self._cluster.kubectl, contender.namespace(1)
        while (said := checks.hardens(kubectl, where)) != checks.YES:
            if time.monotonic() > deadline:
                raise ClusterError(f"{contender.title} does not harden: {said}")
            await asyncio.sleep(1)

    def _route(self, contender: Contender, ports: list[int]) -> None:
        where = contender.namespace(len(ports))
        self._cluster.route(where, ports, contender.mutate, contender.validate)

    async def _ready(self, contender: Contender, *, policies: bool) -> None:
        """Until its policies are there and it works by them, on every replica."""
        servers = self._site.servers.get(contender.program, [])
        deadline = time.monotonic() + START_SECONDS
        error: Exception | None = None
        while time.monotonic() < deadline:
            try:
                if policies:
                    self._cluster.apply(contender.policies("", None))
                    policies = False
                for server in servers:
                    await self._asked_once(contender, server)
            except (BadAnswer, ClusterError, OSError) as failed:
                error = failed
                await asyncio.sleep(1)
            else:
                say(f"{contender.title} is ready")
                return
        said = "".join(
            f"\n{log.name}:\n{log.read_text(errors='replace')[-1500:]}"
            for log in sorted(self._cluster.plane.folder.glob(f"{contender.program}-*.log"))
        )
        raise ClusterError(f"{contender.title} does not work: {error}{said}")

    async def _asked_once(self, contender: Contender, server: Server) -> None:
        for webhook, body in self._reviews.items():
            target = measure.reviewed(contender, server, webhook, body)
            async with connected(target, 1) as (connection,):
                await target.ask(connection)

    async def _more_replicas(self) -> None:
        say(f"starting the other replicas, {max(REPLICAS)} of each")
        for name in self._programs:
            for _ in range(max(REPLICAS) - 1):
                self._site.start(PROGRAMS[name])
        for contender in self._contenders:
            if contender.program:
                await self._ready(contender, policies=False)
                servers = self._site.servers[contender.program]
                self._route(contender, [each.port for each in servers])
        await asyncio.sleep(2)

    def _end_replicas(self) -> None:
        for name in self._programs:
            for index in range(1, len(self._site.servers[name])):
                self._cluster.plane.end(f"{name}-{index}")
            del self._site.servers[name][1:]

    def _resident(self) -> dict[str, float]:
        return {name: self._site.servers[name][0].resident() for name in self._programs}

    # --- measured -------------------------------------------------------------------------------

    def _check(self) -> dict[str, dict[str, str]]:
        say("what becomes of Pods")
        kubectl = self._cluster.kubectl
        return {
            each.name: checks.outcomes(kubectl, each.namespace(1))
            for each in self._contenders
            if each.tells == MUTATES
        }

    async def _rounds(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """In each of them reviews without an API server in between, then applies."""
        found: dict[str, dict[str, Served]] = {}
        applying = Applying(self._cluster, list(self._routes()))
        for number in range(self._effort.rounds):
            say(f"round {number + 1} of {self._effort.rounds}: reviews")
            self._spread(alone=True)
            await self._straight(found)
            say(f"round {number + 1} of {self._effort.rounds}: applies")
            self._spread(alone=False)
            await applying.round(self._effort.seconds)
        served = {
            name: {
                webhook: {"rate": round(median(each.rates), 1), "cpu_us": round(median(each.cpu))}
                for webhook, each in webhooks.items()
                if each.rates
            }
            for name, webhooks in found.items()
        }
        applied = [
            {"contender": name, "replicas": replicas, "rate": rate, **asdict(each)}
            for (name, replicas, rate), each in applying.found.items()
        ]
        return served, applied

    async def _straight(self, found: dict[str, dict[str, Served]]) -> None:
        for contender in self._contenders:
            if not contender.program:
                continue
            server = self._site.servers[contender.program][0]
            for webhook, body in self._reviews.items():
                into = found.setdefault(contender.name, {}).setdefault(webhook, Served())
                target = measure.reviewed(contender, server, webhook, body)
                try:
                    await measure.straight(server, target, self._effort.seconds, into)
                except BadAnswer as error:
                    say(f"{contender.title}, {webhook}: {str(error)[:200]}")

    def _spread(self, *, alone: bool) -> None:
        """The servers on one core and we on another, or everything everywhere."""
        if len(self._cores) == 1:
            return
        core = self._site.core
        os.sched_setaffinity(0, set(self._cores) - {core} if alone else self._cores)
        for servers in self._site.servers.values():
            for server in servers:
                measure.pin(server, {core} if alone else self._cores)

    def _routes(self) -> Iterator[Route]:
        yield Route(NOBODY, NOBODY)
        for contender in self._contenders:
            if not contender.program:
                yield Route(contender.name, contender.namespace(1))
                continue
            servers = self._site.servers[contender.program]
            for replicas in REPLICAS:
                yield Route(contender.name, contender.namespace(replicas), (*servers[:replicas],))

    async def _grown(self) -> Growth:
        """CPU of one mutation, in ms; None is no answer."""
        self._spread(alone=True)
        effort = self._effort
        found: Growth = {}
        for count in effort.containers:
            await self._grow(found, "containers", count, pods.small(count))
        for kilobytes in effort.kilobytes:
            pod = pods.small(env_bytes=kilobytes * 1000)
            await self._grow(found, "kilobytes", max(2, kilobytes), pod)
        there = 1
        for count in effort.policies:
            await self._more_policies(there, count)
            there = count
            await self._grow(found, "policies", count, pods.small())
        return found

    async def _grow(
        self,
        found: Growth,
        what: str,
        count: int,
        pod: dict[str, Any],
    ) -> None:
        say(f"growth: {count} {what}")
        times: dict[str, list[float | None]] = {}
        for _ in range(self._effort.rounds):
            for contender in self._contenders:
                server = next(iter(self._site.servers.get(contender.program, ())), None)
                seconds = self._effort.seconds / 2
                took = await measure.growth(self._cluster, contender, server, pod, seconds)
                times.setdefault(contender.name, []).append(took)
        for name, each in times.items():
            into = found.setdefault(what, {}).setdefault(name, {})
            answered = [took for took in each if took is not None]
            into[str(count)] = round(median(answered), 3) if answered else None

    async def _more_policies(self, there: int, count: int) -> None:
        """For Namespaces of other teams."""
        if count == there:
            return
        say(f"growth: making policies up to {count}")
        for contender in self._contenders:
            self._cluster.apply(
                each
                for number in range(there, count)
                for each in contender.policies(f"-{number}", {"team": f"team-{number}"})
            )
        servers = [servers[0] for servers in self._site.servers.values()]
        await measure.quiet([self._cluster.api, *servers], 6 * measure.QUIET_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
