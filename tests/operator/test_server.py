"""The server as an API server, a stranger and a broken client meet it: over real TLS."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from batten_serving import UID, Served, pod_review, request_bytes, serving

from batten_operator import server as module
from batten_operator.cluster import Cluster
from batten_operator.facts import ImageFacts
from batten_operator.policies import Policies
from batten_webhooks.inquiry import FactsNeeded, Inquiry
from batten_webhooks.policy import PRESETS
from batten_webhooks.review import Answer, Known, NamespaceUnknown, Webhook, respond
from batten_webhooks.rules.rule import Facts
from batten_webhooks.workload import TEMPLATE_PATHS, PodTemplate, read_pod

Scenario = Callable[[Served], Awaitable[None]]


def play(scenario: Scenario) -> None:
    async def main() -> None:
        async with serving() as served, asyncio.timeout(60):
            await scenario(served)

    asyncio.run(main())


def test_a_pod_is_changed_and_a_bad_one_denied() -> None:
    async def scenario(served: Served) -> None:
        status, answer = await served.post("/mutate?timeout=5s", pod_review())
        assert status == 200
        assert answer["response"]["uid"] == UID
        assert answer["response"]["allowed"] is True
        patch = json.loads(base64.b64decode(answer["response"]["patch"]))
        assert any("readOnlyRootFilesystem" in json.dumps(operation) for operation in patch)

        status, answer = await served.post("/validate?timeout=5s", pod_review())
        assert status == 200
        assert answer["response"]["allowed"] is False
        assert answer["response"]["status"]["code"] == 403

        reviews = "batten_admission_reviews_total"
        pod = {"operation": "CREATE", "kind": "Pod"}
        assert served.count(reviews, webhook="mutate", decision="allowed", **pod) == 1
        assert served.count(reviews, webhook="validate", decision="denied", **pod) == 1
        rule = {"rule": "read-only-root-filesystem", "action": "Deny"}
        assert served.count("batten_rule_violations_total", **rule) == 1
        duration = "batten_admission_review_duration_seconds_count"
        assert served.count(duration, webhook="mutate") == 1

    play(scenario)


def test_what_is_said_of_ourselves() -> None:
    async def scenario(served: Served) -> None:
        assert await served.get("/healthz") == (200, "ok\n")
        assert await served.get("/readyz") == (200, "ok\n")
        served.waiting.add("no certificate yet")
        assert await served.get("/readyz") == (503, "not ready: no certificate yet\n")
        assert (await served.get("/healthz"))[0] == 200
        status, text = await served.get("/metrics")
        assert status == 200
        assert "batten_build_info{" in text

    play(scenario)


@pytest.mark.parametrize("path", ["/", "/mutate/", "/validate/pods", "/mutate%2f", "//mutate"])
def test_an_unknown_path_is_not_found(path: str) -> None:
    async def scenario(served: Served) -> None:
        status, answer = await served.post(path, pod_review())
        assert status == 404
        assert "response" not in answer
        assert served.count("batten_admission_errors_total", reason="unknown_path") == 1

    play(scenario)


def test_other_methods_and_media_types() -> None:
    async def scenario(served: Served) -> None:
        assert (await served.get("/mutate"))[0] == 405
        assert (await served.post("/healthz", b"{}"))[0] == 405
        body = pod_review()
        for headers in (
            {"Content-Type": "application/vnd.kubernetes.protobuf"},
            {"Content-Type": "text/plain"},
            {"Content-Encoding": "gzip"},
        ):
            assert (await served.post("/mutate", body, headers))[0] == 415
        with_charset = {"Content-Type": "application/json; charset=utf-8"}
        assert (await served.post("/mutate", body, with_charset))[0] == 200

    play(scenario)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"{}", b"[]", b"\xff", b'{"kind":"Pod"}', b"[" * 100_000, b'{"request":{}}'],
)
def test_what_is_no_review_is_never_allowed(body: bytes) -> None:
    async def scenario(served: Served) -> None:
        for path in ("/mutate", "/validate"):
            status, answer = await served.post(path, body)
            assert status == 400
            assert answer["kind"] == "Status"
            assert "response" not in answer

    play(scenario)


def test_bodies_up_to_8_mib() -> None:
    padding = "x" * (module.MAX_BODY - len(json.dumps(pod_review(hostname=""))))
    fits = json.dumps(pod_review(hostname=padding)).encode()
    assert len(fits) == module.MAX_BODY

    async def scenario(served: Served) -> None:
        assert (await served.post("/mutate", fits))[0] == 200
        assert (await served.post("/mutate", fits + b" "))[0] == 413

        async def chunks() -> Any:
            for _ in range(9):
                yield b" " * 1024 * 1024

        headers = {"Content-Type": "application/json"}
        async with served.client.post(
            served.url + "/mutate", data=chunks(), headers=headers
        ) as answer:
            assert answer.status == 413
        assert served.count("batten_admission_errors_total", reason="too_large") == 2

    play(scenario)


def test_all_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODIES", 3_500_000)
    large = b" " * 1_600_000  # decoded it counts twice

    async def scenario(served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(request_bytes(b" " * 1024, length=2_000_000))
        await writer.drain()
        await asyncio.sleep(0.2)
        status, answer = await served.post("/mutate", large)
        assert (status, answer["message"]) == (503, "too many large reviews at once")
        assert (await served.post("/mutate", pod_review()))[0] == 200
        writer.close()
        await asyncio.sleep(0.2)
        assert (await served.post("/mutate", large))[0] == 400
        assert reader.at_eof() or await reader.read() is not None

    play(scenario)


def test_a_review_that_dribbles_in_is_cut_off_at_its_timeout() -> None:
    async def scenario(served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(request_bytes(b"{", "/validate?timeout=1s", length=1000))
        started = time.monotonic()
        answer = await reader.read()  # until the connection is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in answer
        assert time.monotonic() - started > 0.9
        writer.close()
        assert served.count("batten_admission_errors_total", reason="deadline") == 1

    play(scenario)


def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.5)

    async def scenario(served: Served) -> None:
        head_only = b"POST /mutate HTTP/1.1\r\nHost: a\r\nX-Slow: "
        after_one = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        for words in (b"", head_only, after_one, after_one + head_only):
            reader, writer = await served.connect()
            writer.write(words)
            async with asyncio.timeout(5):
                answered = await reader.read()
            assert answered.count(b"HTTP/1.1") == words.count(b"GET")
            writer.close()

    play(scenario)


def test_a_client_that_never_shakes_hands_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 0.5)

    async def scenario(served: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()

    play(scenario)


def test_more_connections_than_allowed_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)

    async def scenario(served: Served) -> None:
        kept = [await served.connect() for _ in range(2)]
        await asyncio.sleep(0.1)
        assert await closed_at_once(served)
        for _, writer in kept:
            writer.close()
        await asyncio.sleep(0.2)
        assert (await served.post("/mutate", pod_review()))[0] == 200

    play(scenario)


async def closed_at_once(served: Served) -> bool:
    try:
        reader, writer = await served.connect()
        writer.write(request_bytes(json.dumps(pod_review()).encode()))
        return await reader.read() == b""
    except (ConnectionError, ssl.SSLError):
        return True


def test_a_defect_is_an_internal_error_logged_once_with_the_uid(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(module, "respond", broken)

    async def scenario(served: Served) -> None:
        status, answer = await served.post("/mutate", pod_review())
        assert status == 500
        assert answer["message"] == "internal error, see the operator's log"
        assert (await served.post("/mutate", b"not JSON"))[0] == 500
        monkeypatch.setattr(module, "respond", respond)
        assert (await served.post("/mutate", pod_review()))[0] == 200

    with caplog.at_level(logging.WARNING):
        play(scenario)
    logged = [record for record in caplog.records if "review failed" in record.getMessage()]
    assert [getattr(record, "fields", {})["uid"] for record in logged] == [UID, ""]
    assert len(caplog.records) == 2


def test_a_denial_is_logged_without_what_the_object_holds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = [{"name": "app", "image": "a:1", "env": [{"name": "TOKEN", "value": "hunter2"}]}]

    async def scenario(served: Served) -> None:
        await served.post("/validate", pod_review(containers=secret))

    with caplog.at_level(logging.DEBUG):
        play(scenario)
    denials = [r for r in caplog.records if r.getMessage() == "denied"]
    assert len(denials) == 1
    assert "read-only-root-filesystem" in getattr(denials[0], "fields", {})["rules"]
    assert not any("hunter2" in str(record.__dict__) for record in caplog.records)


def test_labels_are_bounded_whatever_is_sent() -> None:
    async def scenario(served: Served) -> None:
        for number in range(50):
            review = pod_review(operation=f"EVIL{number}")
            review["request"]["kind"] = {"group": "x", "version": "v1", "kind": f"K{number}"}
            review["request"]["object"]["kind"] = f"K{number}"
            assert (await served.post("/mutate", review))[0] == 200
        other = {"operation": "other", "kind": "other", "decision": "allowed"}
        assert served.count("batten_admission_reviews_total", webhook="mutate", **other) == 50

    play(scenario)


def test_connections_are_kept_and_recycled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTION_SECONDS", (0.6, 0.6))
    body = request_bytes(json.dumps(pod_review()).encode())

    async def scenario(served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(body)
        assert b"Connection: close" not in await head(reader)
        await asyncio.sleep(0.8)
        writer.write(body)
        assert b"Connection: close" in await head(reader)
        assert await reader.read() == b""
        writer.close()

    play(scenario)


async def head(reader: asyncio.StreamReader) -> bytes:
    """One answer's head; its body is read too."""
    text = await reader.readuntil(b"\r\n\r\n")
    length = int(text.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return text


def test_draining_answers_everybody_and_asks_them_to_leave() -> None:
    body = json.dumps(pod_review()).encode()

    async def scenario(served: Served) -> None:
        reader, writer = await served.connect()
        message = request_bytes(body)
        writer.write(message[:-10])  # a request under way
        await writer.drain()
        await asyncio.sleep(0.1)
        served.server.drain()
        assert await served.get("/readyz") == (503, "not ready: stopping\n")
        status, _ = await served.post("/mutate", pod_review())
        assert status == 200
        stopping = asyncio.create_task(served.server.stop())
        await asyncio.sleep(0.3)
        writer.write(message[-10:])
        answered = await head(reader)
        assert answered.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answered
        await stopping
        with pytest.raises(OSError):  # noqa: PT011
            await served.connect()
        writer.close()

    play(scenario)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_tls_versions(version: ssl.TLSVersion, accepted: bool) -> None:
    async def scenario(served: Served) -> None:
        served.trust.set_ciphers("DEFAULT:@SECLEVEL=0")
        served.trust.minimum_version = ssl.TLSVersion.TLSv1
        served.trust.maximum_version = version
        if accepted:
            _, writer = await served.connect()
            writer.close()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await served.connect()

    play(scenario)


def test_strangers_speaking_something_else() -> None:
    """Plain HTTP, and rubbish inside TLS, are turned away; the rest is served on."""

    async def scenario(served: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /mutate HTTP/1.1\r\n\r\n")
        with suppress(ConnectionError):
            assert await reader.read() == b""
        reader, writer = await served.connect()
        writer.write(b"\x00\x01rubbish\r\n\r\n")
        assert (await reader.read()).startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
        assert (await served.post("/mutate", pod_review()))[0] == 200

    play(scenario)


def test_look_ups_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2 s they have 1.2 together; scripted look-ups stand for those that take their time."""
    given: list[float] = []

    class Labels(Policies):
        async def look_up(self, name: str, seconds: float = 3.0) -> None:
            given.append(seconds)
            await asyncio.sleep(0.3)

    class Images(ImageFacts):
        async def gather(self, inquiry: Inquiry, seconds: float) -> Facts:
            given.append(seconds)
            return Facts()

    inquiry = Inquiry("shop", read_pod(PodTemplate()), {}, {})
    raised = [NamespaceUnknown("shop"), FactsNeeded(inquiry), NamespaceUnknown("shop")]

    def answer(webhook: Webhook, body: bytes, known: Known) -> Answer:
        if raised:
            raise raised.pop(0)
        return respond(webhook, body, replace(known, images=None))

    monkeypatch.setattr(module, "respond", answer)

    async def scenario(served: Served) -> None:
        served.server._policies = Labels(PRESETS["hardened"], TEMPLATE_PATHS)
        served.server._images = Images(Cluster(), None)  # type: ignore[arg-type]
        assert (await served.post("/mutate?timeout=2s", pod_review()))[0] == 200
        assert given[0] <= 1.2
        assert given[1] <= 0.9
        assert given[2] <= given[1]
        raised.extend(NamespaceUnknown("shop") for _ in range(100))
        assert (await served.post("/mutate?timeout=2s", pod_review()))[0] == 500

    play(scenario)
