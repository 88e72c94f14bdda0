"""Registries that are slow, wrong or hostile. A small server stands for them: no real one is so."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from batten_webhooks.images import registry, transport
from batten_webhooks.images.authorization import _realm
from batten_webhooks.images.content import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Credential, Keyring
from batten_webhooks.images.registry import Registries
from batten_webhooks.images.transport import RegistrySettings
from batten_webhooks.reference import Reference

SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DIGEST = f"sha256:{'0' * 64}"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Hostile:
    """`seen` are the requests that came, with their Authorization."""

    host: str = ""
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def reference(self) -> Reference:
        return Reference(self.host, "team/app", "1")


@asynccontextmanager
async def hostile(answer: Answer) -> AsyncIterator[Hostile]:
    server = Hostile()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        server.seen.append((request.method, request.path_qs, given))
        return await answer(request)  # type: ignore[arg-type]

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def always(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return answer


def settings(*hosts: str) -> RegistrySettings:
    return RegistrySettings(plain_http=frozenset(hosts))


def fails(answer: Answer, ask: str = "resolve", keyring: Keyring | None = None) -> RegistryError:
    """How asking once fails."""

    async def main() -> RegistryError:
        async with hostile(answer) as server, Registries(settings(server.host)) as registries:
            digest = () if ask == "resolve" else (DIGEST,)
            with pytest.raises(RegistryError) as caught:
                await getattr(registries, ask)(server.reference(), *digest, keyring or Keyring())
            return caught.value

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "unauthorized"),
        (403, "unauthorized"),
        (404, "not-found"),
        (418, "invalid"),
        (429, "rate-limited"),
        (500, "unavailable"),
        (503, "unavailable"),
    ],
)
def test_every_status_has_its_reason(status: int, reason: str) -> None:
    error = fails(always(status))
    assert error.reason == reason


@pytest.mark.parametrize("kind", [SCHEMA_1, "text/html", ""])
def test_what_is_no_image_is_refused(kind: str) -> None:
    error = fails(always(Docker_Content_Digest=DIGEST, Content_Type=kind))
    assert error.reason == "invalid"
    assert "not an image" in str(error)


@pytest.mark.parametrize("digest", ["sha256:0", "md5:" + "0" * 32, "é", f"sha256:{'G' * 64}"])
def test_a_digest_that_is_none_is_refused(digest: str) -> None:
    error = fails(always(Docker_Content_Digest=digest, Content_Type=OCI_INDEX))
    assert error.reason == "invalid"
    assert str(error).isprintable()


@pytest.mark.parametrize("status", [200, 405])
def test_without_a_digest_the_bytes_themselves_are_hashed(status: int) -> None:
    body = json.dumps({"config": {"digest": DIGEST}}).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(status=status, headers={"Content-Type": OCI_MANIFEST})
        return web.Response(body=body, headers={"Content-Type": OCI_MANIFEST})

    async def main() -> str:
        async with hostile(answer) as server, Registries(settings(server.host)) as registries:
            return await registries.resolve(server.reference(), Keyring())

    assert asyncio.run(main()) == f"sha256:{hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        (b"{}", OCI_MANIFEST, "is not sha256:000"),
        (b"", OCI_INDEX, "is not sha256:000"),
    ],
)
@pytest.mark.parametrize("ask", ["manifest", "configuration"])
def test_bytes_that_are_not_their_digests_are_refused(
    body: bytes, kind: str, told: str, ask: str
) -> None:
    error = fails(always(body=body, Content_Type=kind), ask)
    assert error.reason == "invalid"
    assert told in str(error)


def test_a_manifest_of_a_hundred_megabytes_is_not_read() -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": OCI_MANIFEST})
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" " * 2**20)
            sent += 1
        return response

    error = fails(answer, "manifest")
    assert str(error) == "the registry sent more than 4194304 bytes"
    assert sent < 20


@pytest.mark.parametrize("ask", ["resolve", "manifest"])
def test_an_answer_that_breaks_off_is_an_error(ask: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": OCI_MANIFEST})
        response.content_length = 1000
        await response.prepare(request)
        if request.method == "GET":
            await response.write(b"{")
        assert request.transport is not None
        request.transport.abort()
        return response

    assert fails(answer, ask).reason == "unavailable"


def test_a_registry_that_hangs_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "EXCHANGE_SECONDS", 0.3)

    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    error = fails(answer)
    assert (error.reason, "does not answer" in str(error)) == ("timeout", True)


def test_a_registry_that_answers_byte_by_byte_is_left_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "CALL_SECONDS", 0.5)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": OCI_MANIFEST})
        await response.prepare(request)
        while request.method == "GET":
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    assert fails(answer, "manifest").reason == "timeout"


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fd00:ec2::254]/",
        "http://168.63.129.16/machine",
        "http://0.0.0.0/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[fe80::1]/",
        "http://localhost:1/",
        "ftp://registry.example/",
        "",
    ],
)
def test_a_redirect_leads_to_no_address_of_ours(location: str) -> None:
    error = fails(always(307, Location=location))
    # Libraries that take no such number for an address refuse it by themselves.
    assert error.reason == "refused" or "not a canonical IPv4 address" in str(error)
    assert str(error).isprintable()


def test_redirects_end() -> None:
    assert "more than 5 times" in str(fails(always(302, Location="/v2/again")))


def test_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    credential = Credential("robot", "secret")

    async def main() -> tuple[Hostile, Hostile]:
        async with hostile(always(200, b"{}")) as other:

            async def answer(request: web.Request) -> web.StreamResponse:
                if "Authorization" not in request.headers:
                    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="a"'})
                return web.Response(status=307, headers={"Location": f"http://{other.host}/blob"})

            async with (
                hostile(answer) as first,
                Registries(settings(first.host, other.host)) as registries,
            ):
                keyring = Keyring([(first.host, credential)])
                with pytest.raises(RegistryError, match="is not sha256"):
                    await registries.configuration(first.reference(), DIGEST, keyring)
                return first, other

    first, other = asyncio.run(main())
    assert [bool(given) for *_, given in first.seen] == [False, True]
    assert [given for *_, given in other.seen] == [""]


@pytest.mark.parametrize(
    "realm",
    [
        "http://169.254.169.254/token",
        "http://127.0.0.1:1/token",
        "file:///etc/passwd",
        "token",
        "",
    ],
)
def test_a_challenge_sends_nobody_to_an_address_of_ours(realm: str) -> None:
    keyring = Keyring([("127.0.0.1:*", Credential("robot", "secret"))])
    error = fails(always(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"'), "resolve")
    assert error.reason == "refused"
    error = fails(always(401, WWW_Authenticate=f'Bearer realm="{realm}"'), "resolve", keyring)
    assert error.reason == "refused"


def test_a_registry_with_tls_has_a_token_server_with_tls() -> None:
    """What a password is sent to: no real registry here says otherwise."""
    tls, plain = URL("https://registry.example"), URL("http://registry.example")
    assert str(_realm(tls, "https://auth.example/t")) == "https://auth.example/t"
    assert str(_realm(plain, "http://auth.example/t")) == "http://auth.example/t"
    for realm in ("http://auth.example/t", "//auth.example/t", "https:///t", "https://[/t", "\n"):
        with pytest.raises(RegistryError, match="no https"):
            _realm(tls, realm)


@pytest.mark.parametrize(
    "token", [b"{}", b"[", b'{"token": 5}', b'{"token": "a\\r\\nHost: b"}', b'{"token": ""}']
)
def test_a_token_server_that_sends_no_token(token: bytes) -> None:
    async def main() -> RegistryError:
        async with hostile(always(200, token)) as tokens:
            challenge = f'Bearer realm="http://{tokens.host}/",service="s"'
            async with (
                hostile(always(401, WWW_Authenticate=challenge)) as server,
                Registries(settings(server.host, tokens.host)) as registries,
            ):
                with pytest.raises(RegistryError) as caught:
                    await registries.resolve(server.reference(), Keyring())
                return caught.value

    error = asyncio.run(main())
    assert (error.reason, "sent no token" in str(error)) == ("invalid", True)


def test_who_asks_too_often_waits_as_long_as_it_is_told() -> None:
    async def main() -> tuple[int, list[RegistryError]]:
        errors = []
        async with hostile(always(429, Retry_After="120")) as server:
            async with Registries(settings(server.host)) as registries:
                for _ in range(3):
                    with pytest.raises(RegistryError) as caught:
                        await registries.resolve(server.reference(), Keyring())
                    errors.append(caught.value)
            return len(server.seen), errors

    asked, errors = asyncio.run(main())
    assert asked == 1
    assert [error.reason for error in errors] == ["rate-limited"] * 3
    assert "not asked again for 120 s" in str(errors[2])


def test_a_registry_that_is_down_is_not_tried_by_everybody() -> None:
    async def main() -> int:
        async with hostile(always(500)) as server, Registries(settings(server.host)) as registries:
            for _ in range(20):
                with pytest.raises(RegistryError, match="answers 500"):
                    await registries.resolve(server.reference(), Keyring())
            return len(server.seen)

    assert asyncio.run(main()) == 5


@pytest.mark.parametrize("value", ["", "ÿ", "Bearer", "Bearer realm=", "Digest x", "Bearer " * 9])
def test_a_challenge_that_cannot_be_met_is_no_way_in(value: str) -> None:
    assert fails(always(401, WWW_Authenticate=value)).reason in {"unauthorized", "refused"}


def test_an_index_of_another_type_than_it_says() -> None:
    body = json.dumps({"mediaType": DOCKER_MANIFEST, "manifests": []}).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"

    async def main() -> Any:
        answer = always(body=body, Content_Type=OCI_INDEX)
        async with hostile(answer) as server, Registries(settings(server.host)) as registries:
            await registries.manifest(server.reference(), digest, Keyring())

    with pytest.raises(RegistryError, match="calls itself"):
        asyncio.run(main())
