"""What a cluster's Pods ask of a registry: a real one, with tokens."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from batten_webhooks.images.cache import Images
from batten_webhooks.images.keyring import Keyring, read_secret
from batten_webhooks.images.registry import Registries
from batten_webhooks.images.transport import RegistrySettings
from batten_webhooks.reference import parse_reference

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from batten_registry import Registry, docker_config, registry

IMAGES = 50
DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """`heads` were answered with a digest, `challenged` with 401; `microseconds` are processor time
    of one Pod's look-up."""

    pods: int
    heads: int
    challenged: int
    tokens: int
    microseconds: float


def load(pods: int) -> Load:
    """All Pods at once, each with a pull secret of its own namespace that says the same."""
    with TemporaryDirectory(prefix="batten-bench-") as name, registry(Path(name), "token") as found:
        for number in range(IMAGES):
            found.push(f"team/app-{number}", "1")
        assert found.tokens is not None  # noqa: S101 - a registry with tokens has a server of them
        found.tokens.asked.clear()
        took = asyncio.run(_resolve(found, pods))
        log = found.log.read_text()
        challenged = sum("HEAD " in line and '" 401 ' in line for line in log.splitlines())
        tokens = len(found.tokens.asked)
        return Load(pods, found.asked("HEAD"), challenged, tokens, took / pods * 1e6)


async def _resolve(found: Registry, pods: int) -> float:
    assert found.tokens is not None  # noqa: S101
    settings = RegistrySettings(plain_http=frozenset((found.host, found.tokens.host)))
    secret = {".dockerconfigjson": docker_config(found.host)}
    references = [parse_reference(f"{found.host}/team/app-{n}:1") for n in range(IMAGES)]
    async with Registries(settings) as registries:
        images = Images(registries)
        started = time.thread_time()
        await asyncio.gather(
            *(
                images.digest(
                    references[number % IMAGES],
                    Keyring(read_secret("kubernetes.io/dockerconfigjson", secret)),
                    DEADLINE_SECONDS,
                )
                for number in range(pods)
            )
        )
        took = time.thread_time() - started
        await images.close()
    return took
