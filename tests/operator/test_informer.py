"""All objects of one kind, from lists that come page by page and watches that end in every way.

A scripted API server stands for a real one, which cannot be had to expire its list on the way, or
to end a watch at once; with a real one it is shown in tests/scanned.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec import Raw

from batten_operator import informer as module
from batten_operator.cluster import ApiError, Cluster, ListMeta, Object, Page
from batten_operator.informer import Informer, Key

PATH = "/apis/batten.dev/v1alpha1/imagescans"
# The end of a script: it is not asked again.
END = ApiError("the end")


def item(name: str, version: str = "1", namespace: str = "") -> Object:
    metadata = {"name": name, "resourceVersion": version}
    return {"metadata": {**metadata, **({"namespace": namespace} if namespace else {})}}


def page(*items: Object, version: str = "10", more: str = "") -> Page:
    return Page(ListMeta(version, more), [Raw(json.dumps(each).encode()) for each in items])


def event(kind: str, value: Object) -> Object:
    return {"type": kind, "object": value}


class Api(Cluster):
    """Lists are pages or errors, watches are events and, at most, an error at last."""

    def __init__(self, lists: list[Any], watches: list[list[Any]]) -> None:
        super().__init__()
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []
        self.ended = asyncio.Event()

    def _next(self, script: list[Any], what: str) -> Any:
        self.asked.append(what)
        if not script:
            self.ended.set()
            raise END
        return script.pop(0)

    async def page(self, path: str, most: int, token: str = "") -> Page:
        found = self._next(self.lists, f"list {token}".strip())
        if isinstance(found, Exception):
            raise found
        value: Page = found
        return value

    async def watch(self, path: str, version: str) -> AsyncIterator[Object]:
        for each in self._next(self.watches, f"watch {version}"):
            if isinstance(each, Exception):
                raise each
            yield each


def told(
    monkeypatch: pytest.MonkeyPatch,
    lists: list[Any],
    watches: list[list[Any]],
    taken: Callable[[Key, Object], object] = lambda *_: None,
) -> tuple[list[str], list[str], bool]:
    """What was told of, what was asked for, and whether all were told of once."""
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(module, "ABSENT_SECONDS", 0.0)
    said: list[str] = []

    def take(key: Key, value: Object) -> None:
        said.append(f"+{key[1]}@{value['metadata']['resourceVersion']}")
        taken(key, value)

    async def main() -> tuple[list[str], list[str], bool]:
        api = Api(lists, watches)
        informer = Informer(api, PATH, take, lambda key: said.append(f"-{key[1]}"))
        task = asyncio.create_task(informer.run())
        async with asyncio.timeout(10):
            await api.ended.wait()
        task.cancel()
        return said, api.asked, informer.listed.is_set()

    return asyncio.run(main())


def test_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = [page(item("a"), more="t"), page(item("b"), version="11")]
    assert told(monkeypatch, lists, []) == (["+a@1", "+b@1"], ["list", "list t", "watch 11"], True)


def test_nothing_is_gone_before_the_last_page(monkeypatch: pytest.MonkeyPatch) -> None:
    expired = ApiError("GET: the token has expired", 410)
    lists = [page(item("a"), item("b")), page(item("a"), more="t"), expired, page(item("b"))]
    said, asked, _ = told(monkeypatch, lists, [[expired]])
    assert said == ["+a@1", "+b@1", "-a"]
    assert asked[:5] == ["list", "watch 10", "list", "list t", "list"]


def test_what_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [
        event("ADDED", item("b", "11")),
        event("MODIFIED", item("a", "12")),
        event("BOOKMARK", item("", "15")),
        event("DELETED", item("b", "16")),
        event("DELETED", item("never", "17")),
    ]
    said, asked, _ = told(monkeypatch, [page(item("a"))], [events])
    assert said == ["+a@1", "+b@11", "+a@12", "-b"]
    assert asked[-1] == "watch 17"


def test_a_watch_that_is_cut_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    watches = [[event("ADDED", item("b", "11"))], [], [event("ADDED", item("c", "12"))]]
    said, asked, _ = told(monkeypatch, [page(item("a"))], watches)
    assert said == ["+a@1", "+b@11", "+c@12"]
    assert asked[:5] == ["list", "watch 10", "watch 11", "watch 11", "watch 12"]


def test_watches_that_end_at_once_are_not_begun_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def sleeping(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    async def main() -> None:
        api = Api([page()], [[], [], []])
        informer = Informer(api, PATH, lambda *_: None, lambda _: None)
        monkeypatch.setattr(asyncio, "sleep", sleeping)
        task = asyncio.create_task(informer.run())
        async with asyncio.timeout(10):
            await api.ended.wait()
        task.cancel()

    asyncio.run(main())
    assert len([each for each in slept[:3] if each > 0.5]) == 3


@pytest.mark.parametrize(
    "lost",
    [
        ApiError("GET: too old resource version", 410),
        event("ERROR", {"code": 410, "message": "too old resource version"}),
        event("ERROR", {}),
        ApiError("GET: the watch has gone silent"),
    ],
)
def test_what_was_missed_is_found_by_a_new_list(monkeypatch: pytest.MonkeyPatch, lost: Any) -> None:
    lists = [page(item("a"), item("b"), item("c")), page(item("b"), item("c", "2"), item("d"))]
    said, asked, _ = told(monkeypatch, lists, [[lost]])
    assert said == ["+a@1", "+b@1", "+c@1", "+c@2", "+d@1", "-a"]
    assert asked[:3] == ["list", "watch 10", "list"]


def test_a_kind_that_appears_later_and_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ApiError("GET: not found", 404)
    said, _, listed = told(monkeypatch, [absent, page(item("a")), absent], [[absent]])
    assert said == ["+a@1", "-a"]
    assert listed


def test_without_the_right_to_list_nothing_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said, _, listed = told(monkeypatch, [ApiError("GET: forbidden", 403)], [])
    assert (said, listed) == ([], False)


def test_a_defect_in_who_is_told_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(key: Key, _: Object) -> None:
        if key[1] == "bad":
            raise KeyError(key)

    lists = [page(item("bad"), item("a")), page(item("bad"), item("a"))]
    assert told(monkeypatch, lists, [], broken)[0] == ["+bad@1", "+a@1"]


def test_names_are_of_their_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = [page(item("a", namespace="x"), item("a", namespace="y"))]
    gone = [event("DELETED", item("a", "11", "x"))]
    assert told(monkeypatch, lists, [gone])[0] == ["+a@1", "+a@1", "-a"]
