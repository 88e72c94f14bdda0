"""The servers under load: real processes on a core of their own, certificates and all."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from batten_operator.certificates import fresh
from bench.client import Review

START_SECONDS = 30.0
OPERATOR = (
    "-m", "batten_operator", "--enforce", "--preset=hardened",
    "--listen=127.0.0.1:0", "--listen-http=",
    "--no-look-up-images",  # a registry that is not there would be measured
)  # fmt: skip


class DidNotStart(Exception):
    """The message is what the server said."""


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    port: int
    trust: ssl.SSLContext

    def target(self, path: str, body: bytes, *, allowed: bool = True) -> Review:
        tells = b'"allowed":true' if allowed else b'"allowed":false'
        return Review(self.port, self.trust, path, body, tells)

    def processor_seconds(self) -> float:
        """What the process has used so far, in user and in system mode (proc(5), fields 14, 15)."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """MiB of memory that the process holds."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


def certificates(folder: Path) -> ssl.SSLContext:
    """Writes tls.crt and tls.key (ECDSA P-256); returns what a client trusts them by."""
    store = fresh(("localhost",), timedelta(days=1), datetime.now(UTC))
    (folder / "tls.crt").write_bytes(store.serving.certificate)
    (folder / "tls.key").write_bytes(store.serving.key)
    return trusting(store.bundle)


def trusting(bundle: bytes) -> ssl.SSLContext:
    """Of a client that trusts these CAs alone."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(cadata=bundle.decode())
    return trust


@contextmanager
def operator(folder: Path, trust: ssl.SSLContext, core: int | None) -> Iterator[Server]:
    arguments = (*OPERATOR, f"--certificate-directory={folder}", "--no-policies")
    with _started(arguments, folder / "operator.log", trust, core) as server:
        yield server


@contextmanager
def canned(folder: Path, trust: ssl.SSLContext, core: int | None) -> Iterator[Server]:
    arguments = ("-m", "bench.canned", str(folder))
    with _started(arguments, folder / "canned.log", trust, core) as server:
        yield server


@contextmanager
def _started(
    arguments: Sequence[str], log: Path, trust: ssl.SSLContext, core: int | None
) -> Iterator[Server]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=output, env=_environment()
        )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        yield Server(process.pid, _port(process, log), trust)
    finally:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """Without settings of an operator that the shell may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BATTEN_")}


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.endswith("}") and (said := json.loads(line))["message"] == "serving":
                return int(said["address"].rpartition(":")[2])
        time.sleep(0.05)
    raise DidNotStart(log.read_text())
