"""The memory limit: what large reviews may take of it, and what happens where it is reached."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from batten_chaos import WEBHOOK, Stage, api, fault, measured, stage
from batten_chart import CHART

pytestmark = pytest.mark.cluster

MIB = 2**20
LARGE = 2_800_000  # an API server takes 3 MiB
AT_ONCE = 60
ROOT = Path("/sys/fs/cgroup/memory")  # version 1; with version 2 there is no such folder
INSIDE = 'echo $$ >"$1"; shift; exec "$@"'


@dataclass(frozen=True)
class Limit:
    """A cgroup of memory; `within` starts a program in it."""

    folder: Path

    @property
    def within(self) -> tuple[str, ...]:
        return ("sh", "-c", INSIDE, "sh", str(self.folder / "cgroup.procs"))

    @property
    def most(self) -> int:
        """What was used at most, in bytes."""
        name = "memory.max_usage_in_bytes" if _first() else "memory.peak"
        return int((self.folder / name).read_text())


def _first() -> bool:
    return ROOT.is_dir()


@contextmanager
def limited(mebibytes: int) -> Iterator[Limit]:
    folder = (ROOT if _first() else ROOT.parent) / f"batten-{uuid.uuid4().hex[:8]}"
    name = "memory.limit_in_bytes" if _first() else "memory.max"
    try:
        folder.mkdir()
        (folder / name).write_text(str(mebibytes * MIB))
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no memory can be limited here: {error.strerror}")
    try:
        yield Limit(folder)
    finally:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (folder / "cgroup.procs").read_text():
            time.sleep(0.1)
        folder.rmdir()


@pytest.fixture(scope="module")
def never() -> Iterator[str]:
    """A registry that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=500) as bound:
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture(scope="module")
def batten(tmp_path_factory: pytest.TempPathFactory, never: str) -> Iterator[Stage]:
    arguments = ("--look-up-images", f"--plain-http={never}")
    with stage(tmp_path_factory.mktemp("chaos"), arguments=arguments) as ready:
        yield ready


def flooded(batten: Stage, host: str, seconds: float) -> Counter[int]:
    """HTTP statuses of large Pods that are made by AT_ONCE people for so long."""
    said = Counter[int]()

    async def one(session: aiohttp.ClientSession, until: float) -> None:
        while time.monotonic() < until:
            image = f"{host}/shop/{uuid.uuid4().hex}:1"
            environment = [{"name": "LARGE", "value": "x" * LARGE}]
            container = {"name": "app", "image": image, "env": environment}
            value = {"metadata": {"generateName": "large-"}, "spec": {"containers": [container]}}
            path = f"/api/v1/namespaces/{batten.namespace.name}/pods?dryRun=All"
            try:
                async with session.post(path, json=value) as answer:
                    said[answer.status] += 1
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError):
                said[0] += 1

    async def main() -> None:
        async with api(batten.plane, 60) as session:
            until = time.monotonic() + seconds
            await asyncio.gather(*(one(session, until) for _ in range(AT_ONCE)))

    asyncio.run(main())
    return said


def test_large_reviews_that_wait_fit_the_charts_limit(batten: Stage, never: str) -> None:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    allowed = int(values["resources"]["limits"]["memory"].removesuffix("Mi"))
    with limited(allowed) as limit:
        batten.webhooks(within=limit.within)
        said = flooded(batten, never, 8)
        print(said, f"{limit.most // MIB} MiB")
        assert batten.plane.running(WEBHOOK), batten.log(WEBHOOK)[-3:]
        batten.calm(WEBHOOK)
        batten.plane.end(WEBHOOK)


@fault(
    "memory limit reached",
    webhooks="the kernel kills them; they start again, and Pods wait (Fail) meanwhile",
    controller="the same; the next leader judges everything anew",
)
def test_the_kernel_kills_it(batten: Stage, never: str) -> None:
    """A thread stands for the kubelet, which starts it again."""
    with limited(110) as limit:
        batten.webhooks(within=limit.within)
        done = threading.Event()
        killed: list[float] = []
        kubelet = threading.Thread(target=restarted, args=(batten, limit, done, killed))
        kubelet.start()
        traffic = batten.traffic()
        with traffic.flowing():
            time.sleep(2)
            flooded(batten, never, 4)
            time.sleep(12)
        done.set()
        kubelet.join()
        batten.plane.end(WEBHOOK)
    traffic.right()
    assert killed
    text = f"{traffic.words()}; killed {len(killed)} times"
    measured(test_the_kernel_kills_it, traffic.recovered(killed[-1]), text, "nothing")


def restarted(batten: Stage, limit: Limit, done: threading.Event, killed: list[float]) -> None:
    while not done.wait(0.1):
        if not batten.plane.running(WEBHOOK):
            killed.append(time.monotonic())
            batten.launch(WEBHOOK, "webhook", within=limit.within)
