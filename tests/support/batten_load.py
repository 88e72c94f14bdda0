"""Pods made at a steady rate, by the API, and what became of each."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from batten_e2e import Kubectl, container

SAFE = container()
UNSAFE = container(securityContext={"privileged": True})
# So that no node has to run them.
GATED = [{"name": "batten.dev/load"}]
UNSAFE_EVERY = 5
DENIED = "denied the request"
# What differs from one failure to the next and says nothing of it.
VARYING = re.compile(r"\d+\.\d+\.\d+\.\d+(:\d+)?|\[[0-9a-f:]+\](:\d+)?|load-\w+")
TIMEOUT = aiohttp.ClientTimeout(total=15)


@dataclass(frozen=True)
class Answer:
    """`at` of time.monotonic(), when it was asked for; `seconds` until the answer."""

    at: float
    seconds: float
    what: str
    message: str = ""


@dataclass
class Load:
    """`per_second` Pods are asked for, every fifth of them privileged.

    Of the safe ones: `hardened` is right, `unhardened` must never be, `held` were refused because
    nobody had hardened them. Of the others: `refused` is right, `let in` must never be. `failed`
    nobody could judge.
    """

    kubectl: Kubectl
    namespace: str
    per_second: float
    dry_run: bool = True
    answers: list[Answer] = field(default_factory=list)

    def flowing(self) -> AbstractContextManager[None]:
        return steadily(self.per_second, lambda: _session(self.kubectl), self._make)

    def counted(self) -> Counter[str]:
        return Counter(answer.what for answer in self.answers)

    def failures(self) -> Counter[str]:
        """Their messages, without addresses and names."""
        failed = (answer for answer in self.answers if answer.what in ("failed", "held"))
        return Counter(VARYING.sub("…", answer.message)[:300] for answer in failed)

    def span(self, *kinds: str) -> float:
        """Seconds from the first to the last of these kinds."""
        times = [answer.at for answer in self.answers if answer.what in kinds]
        return max(times) - min(times) if times else 0.0

    def rate(self) -> float:
        """Answers a second, over the whole."""
        times = [answer.at for answer in self.answers]
        return (len(times) - 1) / (max(times) - min(times))

    def milliseconds(self) -> tuple[float, float]:
        """The median and the 99th percentile of what was answered rightly."""
        right = [a.seconds * 1000 for a in self.answers if a.what in ("hardened", "refused")]
        return statistics.median(right), statistics.quantiles(right, n=100)[98]

    async def _make(self, session: aiohttp.ClientSession, number: int) -> None:
        unsafe = number % UNSAFE_EVERY == 0
        spec = {"containers": [UNSAFE if unsafe else SAFE], "schedulingGates": GATED}
        pod = {"metadata": {"generateName": "load-"}, "spec": spec}
        path = f"/api/v1/namespaces/{self.namespace}/pods" + ("?dryRun=All" if self.dry_run else "")
        started = time.monotonic()
        try:
            async with session.post(path, json=pod) as answer:
                status, body = answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            status, body = 0, {"message": type(error).__name__}
        what = outcome(status, body, unsafe=unsafe)
        message = "" if status == 201 else str(body.get("message"))
        self.answers.append(Answer(started, time.monotonic() - started, what, message))


@contextmanager
def steadily(
    per_second: float,
    connect: Callable[[], aiohttp.ClientSession],
    make: Callable[[aiohttp.ClientSession, int], Coroutine[Any, Any, None]],
) -> Iterator[None]:
    """Requests are made at this rate meanwhile, whether those before are answered or not, and
    numbered from 1; all are answered at the end."""
    stop = threading.Event()

    async def flow() -> None:
        async with connect() as session:
            asked: set[asyncio.Task[None]] = set()
            started, number = time.monotonic(), 0
            while not stop.is_set():
                number += 1
                asked.add(task := asyncio.create_task(make(session, number)))
                task.add_done_callback(asked.discard)
                pause = started + number / per_second - time.monotonic()
                await asyncio.sleep(max(0.0, pause))
            if asked:
                await asyncio.wait(asked)

    thread = threading.Thread(target=lambda: asyncio.run(flow()), name="load")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def outcome(status: int, body: Mapping[str, Any], *, unsafe: bool) -> str:
    """What one answer of the API server means."""
    if status == 201:
        if unsafe:
            return "let in"
        security = body["spec"]["containers"][0].get("securityContext") or {}
        return "hardened" if security.get("readOnlyRootFilesystem") else "unhardened"
    if status == 403 and DENIED in str(body.get("message")):
        return "refused" if unsafe else "held"
    return "failed"


def _session(kubectl: Kubectl) -> aiohttp.ClientSession:
    """As the kubeconfig's user, who has a certificate."""
    asked = kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").require()
    config = json.loads(asked.stdout)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.TemporaryDirectory(prefix="batten-load-") as folder:
        certificate, key = Path(folder, "crt"), Path(folder, "key")
        key.touch(mode=0o600)
        certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
        key.write_bytes(base64.b64decode(user["client-key-data"]))
        context.load_cert_chain(certificate, key)
    return aiohttp.ClientSession(
        base_url=cluster["server"],
        connector=aiohttp.TCPConnector(ssl=context, limit=200),
        timeout=TIMEOUT,
    )
