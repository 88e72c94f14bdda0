"""How a large cluster is read: pages, a list that expires on the way, and a bar for who watches."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from batten_command import BATTEN

from batten_operator import audit
from batten_operator.cluster import ApiError
from batten_operator.scan import reader

Respond = Callable[[str], tuple[int, dict[str, Any]]]


def page(names: str, token: str = "", remaining: int = 0) -> dict[str, Any]:
    items = [{"metadata": {"name": name}} for name in names]
    return {"items": items, "metadata": {"continue": token, "remainingItemCount": remaining}}


def expired(token: str) -> dict[str, Any]:
    """What an API server answers once it has forgotten a list: an hour after it began, or less."""
    return {"kind": "Status", "code": 410, "message": "expired", "metadata": {"continue": token}}


def read(
    respond: Respond, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[str]], list[str], ApiError | None]:
    """The names on each page, the tokens that were sent, and how it ended."""
    sent: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        sent.append(request.query.get("continue", ""))
        status, value = respond(sent[-1])
        return web.json_response(value, status=status)

    async def main() -> tuple[list[list[str]], ApiError | None]:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        config = {
            "clusters": [{"name": "a", "cluster": {"server": address}}],
            "users": [{"name": "a", "user": {"token": "t"}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        }
        (folder / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(folder / "config"))
        pages: list[list[str]] = []
        try:
            async with reader() as opened:
                async for found in opened.pages("/api/v1/pods"):
                    items = [json.loads(bytes(item)) for item in found.items or ()]
                    pages.append([item["metadata"]["name"] for item in items])
        except ApiError as error:
            return pages, error
        finally:
            await runner.cleanup()
        return pages, None

    pages, error = asyncio.run(main())
    return pages, sent, error


def test_a_list_that_expires_goes_on_as_the_api_server_offers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small server stands for a real one, whose lists expire after minutes."""
    answers = {"": (200, page("ab", "1")), "1": (410, expired("2")), "2": (200, page("cd"))}
    pages, sent, error = read(answers.__getitem__, tmp_path, monkeypatch)
    assert (pages, sent, error) == ([["a", "b"], ["c", "d"]], ["", "1", "2"], None)


@pytest.mark.parametrize(("offered", "asked"), [("", 2), ("1", 12)])
def test_a_list_that_expires_for_good_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offered: str, asked: int
) -> None:
    answers = {"": (200, page("ab", "1")), "1": (410, expired(offered))}
    pages, sent, error = read(answers.__getitem__, tmp_path, monkeypatch)
    assert pages == [["a", "b"]]
    assert len(sent) == asked
    assert error is not None
    assert "expired" in str(error)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_who_watches_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    audit._show(500, 2000)
    assert terminal.getvalue() == "\r" + "█" * 7 + "░" * 23 + " 500 of 2,000 Pods"
    audit._show(2000, 2000)
    assert terminal.getvalue().endswith("\r\033[K")  # nothing of it is left


@pytest.mark.parametrize("watched", [True, False])
def test_a_log_holds_no_bar(tmp_path: Path, watched: bool) -> None:
    """The bar is for terminals; an error stands on its own line in both."""
    (tmp_path / "config").write_text("{}")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", 0) as terminal:
        done = subprocess.run(
            [BATTEN, "audit"],
            env={**os.environ, "KUBECONFIG": str(tmp_path / "config")},
            stdout=subprocess.DEVNULL,
            stderr=theirs if watched else subprocess.PIPE,
            check=False,
            timeout=60,
        )
        os.close(theirs)
        told = terminal.read(4096) if watched else done.stderr
    assert done.returncode == 2
    assert told.startswith(b"batten: ")
    assert told.count(b"\n") == 1
