"""Calls that are made side by side while credentials are refused. A server of the test's own stands
for an API server, which cannot be had to refuse every other call."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from batten_operator.cluster import ApiError, Cluster


def test_a_refused_credential_ends_no_other_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of those is answered; nothing is left open."""
    asked = 0

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        status = 401 if asked % 7 == 0 else 200
        await asyncio.sleep(0.001 * (asked % 5))
        return web.json_response({"kind": "Status"}, status=status)

    async def call(cluster: Cluster) -> str:
        try:
            await cluster.get("/api/v1/namespaces/a")
        except ApiError as error:
            return str(error.status)
        return "answered"

    async def main() -> list[str]:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        write(tmp_path / "config", f"http://127.0.0.1:{runner.addresses[0][1]}")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        cluster = Cluster()
        stray: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: stray.append(str(context["message"]))
        )
        said = []
        for _ in range(20):
            said += await asyncio.gather(*(call(cluster) for _ in range(20)))
        await cluster.close()
        await runner.cleanup()
        assert not stray
        return said

    said = asyncio.run(main())
    assert len(said) == 400
    assert set(said) == {"answered", "401"}


def write(file: Path, server: str) -> None:
    config = {
        "clusters": [{"name": "a", "cluster": {"server": server}}],
        "users": [{"name": "a", "user": {"token": "t"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    file.write_text(json.dumps(config))
