"""The operator as a process: how it starts, what it says, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from batten_serving import first_store, pod_review, trusting

from batten_operator.certificates import Store, fresh

BODY = json.dumps(pod_review()).encode()
HEADERS = {"Content-Type": "application/json"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write(folder: Path, store: Store) -> None:
    """As the kubelet does: the key and its certificate change together."""
    for name, content in (("tls.key", store.serving.key), ("tls.crt", store.serving.certificate)):
        (folder / f"new.{name}").write_bytes(content)
    for name in ("tls.key", "tls.crt"):
        (folder / f"new.{name}").rename(folder / name)


def alone(folder: Path) -> tuple[str, ...]:
    """Flags of an operator that has no API server."""
    configurations = ("--mutating-configuration=", "--validating-configuration=")
    return (f"--certificate-directory={folder}", "--no-policies", *configurations)


@dataclass
class Process:
    popen: subprocess.Popen[bytes]
    log: Path
    port: int
    http: int
    answers: list[int] = field(default_factory=list)

    def lines(self) -> list[dict[str, Any]]:
        """Every line of the log must be a JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines()]

    def wait_for(self, message: str, times: int = 1, seconds: float = 20) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            said = [line for line in self.lines() if message in line["message"]]
            if len(said) >= times:
                return said[-1]
            assert self.popen.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"not logged within {seconds} s: {message}\n{self.log.read_text()}")


@contextmanager
def operator(tmp_path: Path, *flags: str, **environment: str) -> Iterator[Process]:
    port, http = free_port(), free_port()
    log = tmp_path / "operator.log"
    command = [sys.executable, "-m", "batten_operator"]
    addresses = [f"--listen=127.0.0.1:{port}", f"--listen-http=127.0.0.1:{http}"]
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [*command, *addresses, *flags],
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
    try:
        yield Process(popen, log, port, http)
    finally:
        popen.kill()
        popen.wait()


async def get(process: Process, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{process.http}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def load(process: Process, bundles: list[bytes], until: asyncio.Event) -> None:
    """Reviews one after another until told, on kept and on new connections, none may fail."""
    while not until.is_set():
        trust = trusting(bundles[-1])
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
            for _ in range(5):
                url = f"https://127.0.0.1:{process.port}/mutate?timeout=5s"
                async with session.post(url, data=BODY, headers=HEADERS) as answer:
                    assert answer.status == 200
                    assert (await answer.json())["response"]["allowed"] is True
                process.answers.append(answer.status)
                await asyncio.sleep(0.005)


def test_a_folder_of_certificates_is_followed_without_losing_a_request(tmp_path: Path) -> None:
    store = first_store()
    write(tmp_path, store)
    bundles = [store.bundle]

    async def renew(process: Process) -> None:
        for number in range(2, 4):
            following = first_store()
            bundles.append(bundles[-1] + following.bundle)
            write(tmp_path, following)
            await asyncio.to_thread(process.wait_for, "certificate loaded", number)
        (tmp_path / "tls.key").write_bytes(b"rubbish")
        await asyncio.to_thread(process.wait_for, "the one before is kept")
        await asyncio.sleep(0.5)

    async def main(process: Process) -> None:
        until = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(load(process, bundles, until))
            await renew(process)
            until.set()

    with operator(tmp_path, *alone(tmp_path)) as process:
        process.wait_for("serving")
        asyncio.run(main(process))
        assert len(process.answers) > 100


def test_sigterm_under_load_loses_no_request(tmp_path: Path) -> None:
    store = first_store()
    write(tmp_path, store)

    async def main(process: Process) -> None:
        until = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(load(process, [store.bundle], until))
            await asyncio.sleep(1)
            assert (await get(process, "/readyz"))[0] == 200
            process.popen.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait_for, "draining")
            assert await get(process, "/readyz") == (503, "not ready: stopping\n")
            assert (await get(process, "/healthz"))[0] == 200
            answered = len(process.answers)
            for _ in range(50):
                if len(process.answers) < answered + 20:
                    await asyncio.sleep(0.1)
            assert len(process.answers) >= answered + 20
            until.set()

    with operator(tmp_path, *alone(tmp_path), "--drain=6s") as process:
        process.wait_for("serving")
        asyncio.run(main(process))
        assert process.popen.wait(20) == 0
        assert process.messages()[-2:] == ["draining", "stopped"]


def test_a_second_signal_ends_the_draining(tmp_path: Path) -> None:
    write(tmp_path, first_store())
    with operator(tmp_path, *alone(tmp_path), "--drain=60s") as process:
        process.wait_for("serving")
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("draining")
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(5) == 0


def test_without_an_api_server_it_waits_and_says_so(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "a", "cluster": {"server": f"https://127.0.0.1:{free_port()}"}}
    context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
    user = {"name": "a", "user": {"token": "secret-token"}}
    config = {"clusters": [cluster], "users": [user], "contexts": [context]}
    kubeconfig.write_text(json.dumps({**config, "current-context": "a"}))

    with operator(tmp_path, KUBECONFIG=str(kubeconfig)) as process:
        waiting = process.wait_for("trying again in")
        assert waiting["level"] == "warning"
        assert asyncio.run(get(process, "/readyz")) == (
            503,
            "not ready: no certificate yet, policies not read yet\n",
        )
        assert asyncio.run(get(process, "/healthz")) == (200, "ok\n")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", process.port))
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(15) == 0
        assert "draining" not in process.messages()
        assert "secret-token" not in process.log.read_text()


def test_without_any_configuration_it_names_what_is_missing(tmp_path: Path) -> None:
    with operator(tmp_path, KUBECONFIG=str(tmp_path / "absent")) as process:
        process.wait_for("no way to the API server is configured")
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(15) == 0


def test_an_address_in_use_is_one_clear_line(tmp_path: Path) -> None:
    write(tmp_path, first_store())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with operator(tmp_path, *alone(tmp_path), f"--listen=127.0.0.1:{port}") as process:
            assert process.popen.wait(20) == 1
            (line,) = process.lines()
            assert line["message"] == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_a_cloud_whose_library_is_missing_is_one_clear_line(tmp_path: Path) -> None:
    """A module that cannot be imported stands for one that is not installed."""
    (tmp_path / "botocore.py").write_text("raise ModuleNotFoundError(name='botocore')\n")
    host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    listed = f"--cloud-registries={host}"
    with operator(tmp_path, *alone(tmp_path), listed, PYTHONPATH=str(tmp_path)) as process:
        assert process.popen.wait(20) == 1
        (said,) = process.messages()
        assert said == f"--cloud-registries {host}: needs pip install 'batten[ecr]'"


def test_two_processes_that_start_at_one_address(tmp_path: Path) -> None:
    """Both may bind it while neither listens; one serves, the other says what is wrong."""
    write(tmp_path, first_store())
    flags = (*alone(tmp_path), f"--listen=127.0.0.1:{free_port()}")
    other = tmp_path / "other"
    other.mkdir()
    with operator(tmp_path, *flags) as one, operator(other, *flags) as two:
        deadline = time.monotonic() + 20
        while one.popen.poll() is None and two.popen.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        loser, winner = (one, two) if one.popen.poll() is not None else (two, one)
        assert loser.popen.wait() == 1
        assert "Address already in use" in loser.messages()[-1]
        assert "Traceback" not in loser.log.read_text()
        winner.wait_for("serving")


def test_strangers_cannot_fill_the_log(tmp_path: Path) -> None:
    write(tmp_path, first_store())
    with operator(tmp_path, *alone(tmp_path)) as process:
        process.wait_for("serving")
        for port in (process.port, process.http):
            for words in (
                b"\x00\x01\x02\r\n\r\n",
                b"GET /" + b"x" * 20_000,
                b"BREW / HTTP/9\r\n\r\n",
            ):
                with socket.create_connection(("127.0.0.1", port)) as stranger:
                    stranger.sendall(words)
        time.sleep(0.5)
        assert process.messages() == ["certificate loaded", "serving"]


def test_a_certificate_that_nobody_renews_is_told_of_once(tmp_path: Path) -> None:
    """It is served on: whose clock is wrong is not for us to say."""
    write(tmp_path, fresh(("localhost", "127.0.0.1"), timedelta(seconds=4), datetime.now(UTC)))
    with operator(tmp_path, *alone(tmp_path)) as process:
        process.wait_for("serving")
        told = process.wait_for("certificate not renewed")
        assert told["level"] == "error"
        time.sleep(3)
        assert [line for line in process.messages() if "not renewed" in line] == [told["message"]]
        assert asyncio.run(get(process, "/readyz"))[0] == 200
        write(tmp_path, first_store())
        process.wait_for("certificate loaded", 2)
