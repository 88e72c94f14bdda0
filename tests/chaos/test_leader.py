"""Two controllers at once: one leads, and when it goes the other follows within 20 s; no report of
what was made meanwhile is missing."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from batten_chaos import Stage, fault, measured, stage
from batten_e2e import deployment, eventually

pytestmark = pytest.mark.cluster

BOUND_SECONDS = 20.0


@pytest.fixture(scope="module")
def batten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("chaos")) as ready:
        ready.webhooks()
        yield ready


@pytest.fixture(scope="module")
def pair(batten: Stage) -> Iterator[list[str]]:
    """The two controllers that run."""
    names = ["first", "second"]
    for name in names:
        batten.launch(name, "controller")
    yield names
    for name in names:
        batten.plane.end(name)


def leads(batten: Stage, name: str) -> bool:
    """By its log, which tells of each turn."""
    said = [line["message"] for line in batten.log(name)]
    return said.count("leading") > said.count("leading no more")


def leader(batten: Stage, pair: list[str]) -> tuple[str, str]:
    """Who leads, and who waits."""

    def one() -> tuple[str, str] | None:
        leading = [name for name in pair if leads(batten, name)]
        return (leading[0], next(iter(set(pair) - set(leading)))) if len(leading) == 1 else None

    return eventually(one, "one leads", 90)


def followed(batten: Stage, other: str, since: float) -> float:
    """The seconds until the other leads; Deployments are made all the while."""
    made = set[str]()
    while not leads(batten, other):
        assert time.monotonic() - since < BOUND_SECONDS
        made.add(name := f"{other}-{len(made)}")
        batten.namespace.apply(deployment(name, replicas=0)).require()
    seconds = time.monotonic() - since
    batten.reports_of(made)
    return seconds


@fault(
    "leading controller killed (SIGKILL)",
    webhooks="are not concerned",
    controller="the other leads once the Lease has not changed for 12 s",
)
def test_the_leader_is_killed(batten: Stage, pair: list[str]) -> None:
    first, second = leader(batten, pair)
    killed = time.monotonic()
    batten.plane.end(first, signal.SIGKILL)
    seconds = followed(batten, second, killed)
    batten.calm(second)
    replaced(batten, pair, first, "third")
    measured(test_the_leader_is_killed, seconds, "", "nothing")


def replaced(batten: Stage, pair: list[str], gone: str, new: str) -> None:
    pair[pair.index(gone)] = new
    batten.launch(new, "controller")
    eventually(lambda: batten.log(new) or None, "it has started")
    time.sleep(3)  # it has seen the Lease, and looks at it every second


@fault(
    "leading controller told to stop (SIGTERM)",
    webhooks="are not concerned",
    controller="it gives the Lease back, and the other takes it within a second of that",
)
def test_the_leader_is_told_to_stop(batten: Stage, pair: list[str]) -> None:
    first, second = leader(batten, pair)
    told = time.monotonic()
    batten.plane.end(first)
    seconds = followed(batten, second, told)
    assert batten.log(first)[-1]["message"] == "stopped"
    batten.calm(second)
    replaced(batten, pair, first, "fourth")
    measured(test_the_leader_is_told_to_stop, seconds, "", "nothing")


@fault(
    "leading controller cut from the network",
    webhooks="are not concerned",
    controller="it leaves the Lease after 8 s, before the other may take it after 12 s",
)
def test_the_leader_is_cut_off(batten: Stage, pair: list[str]) -> None:
    first, second = leader(batten, pair)
    with batten.ways[first].silence():
        cut = time.monotonic()
        seconds = followed(batten, second, cut)
        assert last(batten, first, "leading no more") < last(batten, second, "leading")
    time.sleep(14)  # it is back for longer than a Lease lasts
    assert leader(batten, pair) == (second, first)
    batten.calm(first, second)
    measured(test_the_leader_is_cut_off, seconds, "", "nothing")


def last(batten: Stage, name: str, message: str) -> str:
    """When it said so last."""
    return max(str(line["time"]) for line in batten.log(name) if line["message"] == message)
