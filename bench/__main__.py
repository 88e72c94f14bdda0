"""`python -m bench [--quick]`: what a review costs here, in one table.

Rates depend on the machine and on what else it does; the ratios come from one run, in which the
servers take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import uvloop

from bench import client, engine, governance, images, reviews, servers
from bench.client import Review

CONNECTIONS = 25  # as many as kube-apiserver keeps to one host
RATE = 100


@dataclass(frozen=True, slots=True)
class Effort:
    engine_rounds: int
    rounds: int
    seconds: float
    reviews: int
    pods: int


FULL = Effort(engine_rounds=25, rounds=5, seconds=3, reviews=100_000, pods=10_000)
QUICK = Effort(engine_rounds=3, rounds=1, seconds=0.3, reviews=500, pods=500)


@dataclass(slots=True)
class Served:
    name: str
    server: servers.Server
    target: Review
    rates: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    async def flood(self, seconds: float) -> None:
        async with client.connected(self.target, CONNECTIONS) as opened:
            used, started = self.server.processor_seconds(), time.perf_counter()
            answered = await client.flood(opened, self.target, seconds)
            self.rates.append(answered / (time.perf_counter() - started))
            self.processor.append((self.server.processor_seconds() - used) / answered * 1e6)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it works")
    effort = QUICK if parser.parse_args().quick else FULL
    cores = sorted(os.sched_getaffinity(0))
    print(f"Python {platform.python_version()}, {len(cores)} CPUs, {platform.machine()}")
    if len(cores) == 1:
        print("one CPU only: client and server share it, so the rates are too low")
    _print_engine(effort)
    _print_governance(effort)
    _print_images(effort)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(effort, cores))
    return 0


def _print_engine(effort: Effort) -> None:
    print("\nengine alone, µs of processor time for one review (aim: at most 120)")
    print(f"  {'':37}{'bytes':>8}{'all':>8}{'decode':>8}{'judge':>8}{'answer':>8}")
    for cost in engine.costs(effort.engine_rounds):
        parts = (cost.total, cost.decode, cost.evaluate, cost.answer)
        print(f"  {cost.name:37}{cost.size:8}" + "".join(f"{part:8.1f}" for part in parts))


def _print_governance(effort: Effort) -> None:
    print(
        f"\namong {governance.MANY:,} policies and {governance.MANY:,} exceptions (aim: below 1.20)"
    )
    print(f"  {'':37}{'alone':>8}{'among':>8}{'ratio':>8}")
    for each in governance.added(effort.engine_rounds):
        ratio = each.among / each.alone
        print(f"  among, {each.name:30}{each.alone:8.1f}{each.among:8.1f}{ratio:8.2f}")


def _print_images(effort: Effort) -> None:
    told = images.load(effort.pods)
    print(
        f"\n{told.pods:,} Pods of {images.IMAGES} images ask one registry (aim: a HEAD per image)"
    )
    print(f"  {'':37}{'HEADs':>8}{'401':>8}{'tokens':>8}{'CPU µs':>8}")
    counts = f"{told.heads:8}{told.challenged:8}{told.tokens:8}"
    print(f"  {'digests of tags':37}{counts}{told.microseconds:8.1f}")


async def _serve(effort: Effort, cores: list[int]) -> None:
    core = cores[-1] if len(cores) > 1 else None
    if core is not None:
        os.sched_setaffinity(0, set(cores) - {core})
    with TemporaryDirectory(prefix="batten-bench-") as name:
        folder = Path(name)
        trust = servers.certificates(folder)
        with (
            servers.canned(folder, trust, core) as canned,
            servers.operator(folder, trust, core) as operator,
        ):
            idle = operator.resident()
            await _print_served(effort, canned, operator)
            await _print_memory(effort, operator, idle)


async def _print_served(effort: Effort, canned: servers.Server, operator: servers.Server) -> None:
    plain, hardened = reviews.plain(), reviews.hardened()
    rows = [
        Served("canned patch", canned, canned.target("/mutate", plain)),
        Served("batten mutate", operator, operator.target("/mutate", plain)),
        Served("batten validate", operator, operator.target("/validate", hardened)),
    ]
    for row in rows:
        await client.send([row.target], CONNECTIONS * 4, CONNECTIONS)
    for _ in range(effort.rounds):
        for row in rows:
            await row.flood(effort.seconds)
        for row in rows:
            row.latencies += await client.latencies(row.target, RATE, effort.seconds, CONNECTIONS)
    print(f"\none process on one core, HTTPS, {CONNECTIONS} kept connections (aim: at least 0.5)")
    print(f"  {'':37}{'reviews/s':>10}{'of canned':>10}{'CPU µs':>8}{'p50 ms':>8}{'p99 ms':>8}")
    for row in rows:
        ratio = median(own / base for own, base in zip(row.rates, rows[0].rates, strict=True))
        centiles = quantiles(row.latencies, n=100)
        figures = f"{median(row.rates):10.0f}{ratio:10.2f}{median(row.processor):8.0f}"
        print(f"  {row.name:37}{figures}{centiles[49]:8.2f}{centiles[98]:8.2f} at {RATE}/s")


async def _print_memory(effort: Effort, operator: servers.Server, idle: float) -> None:
    plain, hardened = reviews.plain(), reviews.hardened()
    targets = [
        operator.target("/mutate", plain),
        operator.target("/validate", hardened),
        operator.target("/validate", plain, allowed=False),
    ]
    print("\nresident memory of the operator, MiB (aim: at most 100, and flat)")
    print(f"  {'idle':37}{idle:12.1f}")
    for share in (1, 2):
        await client.send(targets, effort.reviews // 2, CONNECTIONS)
        after = f"after {effort.reviews * share // 2:,} more reviews"
        print(f"  {after:37}{operator.resident():12.1f}")


if __name__ == "__main__":
    sys.exit(main())
