"""Registries that are wrong, each in its own way and at one place of the three: no real one is so.

The server of these tests stands for them; it says what is written in `answers` and 404 otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from batten_dsse import ENVELOPE, Signer, statement
from batten_wrong import Answer, Handler, status

from batten_webhooks.evidence.attestations import attached as module
from batten_webhooks.evidence.attestations.attached import MOST_TOLD, attached
from batten_webhooks.evidence.attestations.model import Attached
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Credential, Keyring
from batten_webhooks.images.registry import MOST_PAGES, Registries
from batten_webhooks.images.transport import RegistrySettings
from batten_webhooks.reference import Reference

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DIGEST = f"sha256:{'a' * 64}"
REFERRERS = f"referrers/{DIGEST}"
FALLBACK = f"manifests/sha256-{'a' * 64}"
TAG = f"{FALLBACK}.att"
SIGNER = Signer.fresh()
RIGHT = SIGNER.sign(statement(DIGEST))


class Wrong:
    """A server on 127.0.0.1; `asked` are the paths below `/v2/app/` that were asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.credentials: list[str | None] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, path: str, data: bytes, kind: str = OCI_INDEX, **headers: str) -> None:
        self.answers[path] = body(data, kind, **headers)

    def artifact(self, *blobs: bytes, subject: str = DIGEST, **layer: Any) -> dict[str, Any]:
        """Served by its digest, with its layers; the descriptor of it."""
        data = manifest(*blobs, subject=subject, **layer)
        self.serve(f"manifests/{digest(data)}", data, OCI_MANIFEST)
        for blob in blobs:
            self.serve(f"blobs/{digest(blob)}", blob, "application/octet-stream")
        return {"mediaType": OCI_MANIFEST, "digest": digest(data), "size": len(data)}

    def _handler(server) -> type[Handler]:  # noqa: N805 - `self` is the handler's
        class Answering(Handler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # noqa: N802 - as the base class calls it
                path = self.path.removeprefix("/v2/app/")
                server.asked.append(path)
                server.credentials.append(self.headers.get("Authorization"))
                try:
                    server.answers.get(path.partition("?")[0], status(404))(self)
                except OSError:
                    self.close_connection = True  # whoever asked has given up

            def log_message(self, *_: object) -> None: ...

        return Answering


def body(data: bytes, kind: str, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def index(*manifests: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()


def manifest(*blobs: bytes, subject: str = DIGEST, **layer: Any) -> bytes:
    layers = [
        {"mediaType": ENVELOPE, "digest": digest(blob), "size": len(blob), **layer}
        for blob in blobs
    ]
    about = {"subject": {"digest": subject, "size": 1}} if subject else {}
    return json.dumps({"config": {"digest": DIGEST, "size": 2}, "layers": layers, **about}).encode()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def wrong() -> Iterator[Wrong]:
    found = Wrong()
    yield found
    found.close()


def search(wrong: Wrong, keyring: Keyring | None = None, **settings: Any) -> Attached:
    plain = frozenset((wrong.host, *settings.pop("hosts", ())))

    async def run() -> Attached:
        async with Registries(RegistrySettings(plain_http=plain, **settings)) as registries:
            reference = Reference(wrong.host, "app")
            return await attached(registries, reference, (DIGEST,), keyring or Keyring())

    return asyncio.run(run())


def also_right(wrong: Wrong) -> None:
    """In cosign 2's tag, which whatever is wrong elsewhere must not hide."""
    wrong.serve(TAG, manifest(RIGHT, subject=""), OCI_MANIFEST)
    wrong.serve(f"blobs/{digest(RIGHT)}", RIGHT, "application/octet-stream")


def is_right(found: Attached) -> bool:
    return [each.data for each in found.candidates] == [RIGHT]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (status(500), "answers 500"),
        (status(400), "the registry answers 400"),
        (status(307, Location="http://169.254.169.254/"), "is a link-local address"),
        (body(b"<html>", "text/html"), "the registry sent no manifest"),
        (body(b"{", OCI_INDEX), "the registry sent no "),
        (body(b"[" * 10_000, OCI_INDEX), "the registry sent no "),
        (body(manifest(b""), OCI_MANIFEST), "the registry sent no list of referrers"),
        (body(b" " * 100_000_000, OCI_INDEX), "sent more than 4194304 bytes"),
    ],
)
def test_a_list_that_is_none(wrong: Wrong, answer: Answer, told: str) -> None:
    """It is told, and what is in the other places counts."""
    also_right(wrong)
    wrong.answers[REFERRERS] = answer

    found = search(wrong)

    assert is_right(found)
    (sentence,) = found.told
    assert sentence.startswith(f"the referrers of {DIGEST[:19]}…: ")
    assert told in sentence
    assert found.failed


def test_a_registry_that_wants_to_be_left_alone(wrong: Wrong) -> None:
    """Everything is told, nothing is asked twice, and nothing at all is an error."""
    for path in (REFERRERS, FALLBACK, TAG):
        wrong.answers[path] = status(429, Retry_After="60")
    with pytest.raises(RegistryError, match="too often") as caught:
        search(wrong)
    assert caught.value.reason == "rate-limited"
    assert len(wrong.asked) == 1


def test_a_registry_that_hangs(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before the deadline counts."""
    monkeypatch.setattr(module, "SECONDS_FOR_LISTS", 1.0)
    also_right(wrong)
    wrong.answers[FALLBACK] = lambda _: time.sleep(3)

    found = search(wrong)

    assert found.told == (f"tag {FALLBACK[10:]}: the registry took too long",)
    assert found.failed


def test_a_next_page_on_another_host(wrong: Wrong) -> None:
    """It is not asked, and gets no password; the first page counts."""
    other = Wrong()
    link = f'<http://{other.host}/v2/app/{REFERRERS}?n=2>; rel="next"'
    wrong.serve(REFERRERS, index(wrong.artifact(RIGHT)), Link=link)

    found = search(wrong, hosts=(other.host,))

    other.close()
    assert is_right(found)
    assert "another host" in found.told[0]
    assert other.asked == []


@pytest.mark.parametrize("link", ["?n=2", f"/v2/app/{REFERRERS}?n=2", "http://{host}/v2/app/x"])
def test_a_next_page(wrong: Wrong, link: str) -> None:
    """With the same credentials, wherever on the host it is."""
    keyring = Keyring([(wrong.host, Credential("robot", "secret"))])
    first, second = wrong.artifact(b"first"), wrong.artifact(b"second")

    def pages(handler: Handler) -> None:
        if not handler.headers.get("Authorization"):
            status(401, WWW_Authenticate='Basic realm="tests"')(handler)
        elif handler.path == f"/v2/app/{REFERRERS}":
            told = f'<{link.format(host=wrong.host)}>; rel="next"'
            body(index(first), OCI_INDEX, Link=told)(handler)
        else:
            body(index(second), OCI_INDEX)(handler)

    wrong.answers[REFERRERS] = wrong.answers["x"] = pages

    found = search(wrong, keyring)

    assert {each.data for each in found.candidates} == {b"first", b"second"}
    assert found.told == ()


def test_endless_pages(wrong: Wrong) -> None:
    """Each leads to the next one; what the first ones list counts."""
    wrong.serve(REFERRERS, index(wrong.artifact(RIGHT)), Link='<?n=2>; rel="next"')

    found = search(wrong)

    assert is_right(found)
    assert found.told == (
        f"the referrers of {DIGEST[:19]}…: the registry lists more than {MOST_PAGES} pages",
    )
    assert sum(each.startswith("referrers/") for each in wrong.asked) == MOST_PAGES


def test_a_manifest_of_another_digest(wrong: Wrong) -> None:
    also_right(wrong)
    listed = wrong.artifact(b"x")
    wrong.serve(f"manifests/{listed['digest']}", manifest(RIGHT, b"y"), OCI_MANIFEST)
    wrong.serve(FALLBACK, index(listed))

    found = search(wrong)

    assert is_right(found)
    assert found.told[0].startswith(f"artifact {listed['digest'][:19]}…: what the registry sent is")


def test_a_blob_of_another_digest(wrong: Wrong) -> None:
    also_right(wrong)
    wrong.serve(FALLBACK, index(wrong.artifact(b"good")))
    wrong.serve(f"blobs/{digest(b'good')}", b"evil", "application/octet-stream")

    found = search(wrong)

    assert is_right(found)
    assert found.told[0].startswith(f"attestation {digest(b'good')[:19]}…: what the registry sent")


@pytest.mark.parametrize("size", [1, 10, len(RIGHT) - 1])
def test_a_blob_that_is_longer_than_its_manifest_says(wrong: Wrong, size: int) -> None:
    """So that many small ones cannot be big together."""
    wrong.serve(FALLBACK, index(wrong.artifact(RIGHT, size=size)))
    found = search(wrong)
    told = f"attestation {digest(RIGHT)[:19]}…: the registry sent more than {size} bytes"
    assert (found.candidates, found.told) == ((), (told,))


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (0, "is of 0 bytes: none, or more than 10485760, are not read"),
        (-1, "Expected `int` >= 0"),
        (2**40, f"is of {2**40} bytes: none, or more than 10485760, are not read"),
    ],
)
def test_a_size_that_is_none(wrong: Wrong, size: int, told: str) -> None:
    wrong.serve(FALLBACK, index(wrong.artifact(RIGHT, size=size)))
    found = search(wrong)
    assert found.candidates == ()
    assert told in found.told[0]
    assert not any(each.startswith("blobs/") for each in wrong.asked)


@pytest.mark.parametrize("name", ["", "sha256:abc", "../../evil", f"sha256:{'A' * 64}", "x" * 9999])
def test_digests_that_are_none(wrong: Wrong, name: str) -> None:
    """They select no path; and what is listed beside them counts."""
    right = wrong.artifact(RIGHT)
    listed = {"mediaType": OCI_MANIFEST, "digest": name, "size": 1}
    wrong.serve(FALLBACK, index(listed, right))

    found = search(wrong)

    assert is_right(found)
    assert "is no digest" in found.told[0]
    assert all(
        each.startswith(("referrers/", "manifests/sha256", "blobs/")) for each in wrong.asked
    )


def test_subjects_that_lie(wrong: Wrong) -> None:
    other = wrong.artifact(RIGHT, subject=f"sha256:{'b' * 64}")
    none = wrong.artifact(RIGHT + b" ", subject="")
    wrong.serve(REFERRERS, index(other, none))

    found = search(wrong)

    assert found.candidates == ()
    told = f"is listed for {DIGEST[:19]}… and is not about it"
    assert [each.endswith(told) for each in found.told] == [True, True]


def test_an_index_beside_the_image(wrong: Wrong) -> None:
    """And one within another: neither is an attestation, and no more is read of them."""
    inner = index(wrong.artifact(RIGHT))
    wrong.serve(f"manifests/{digest(inner)}", inner)
    wrong.serve(REFERRERS, index({"mediaType": OCI_INDEX, "digest": digest(inner), "size": 1}))
    wrong.serve(TAG, inner)
    assert search(wrong) == Attached(())


def test_a_thousand_artifacts(wrong: Wrong) -> None:
    """Those that call themselves attestations are read first."""
    others = [
        {"mediaType": OCI_MANIFEST, "digest": f"sha256:{number:04x}{'0' * 60}", "size": 1}
        for number in range(1000)
    ]
    right = wrong.artifact(RIGHT) | {"artifactType": ENVELOPE}
    wrong.serve(REFERRERS, index(right, *others))

    found = search(wrong)

    assert is_right(found)
    assert found.told[0].startswith("951 more attestations are not read: at most 50 of one image")
    assert len(found.told) == MOST_TOLD + 1
    assert len(wrong.asked) < 60


def test_a_list_that_is_empty(wrong: Wrong) -> None:
    """The tag is asked for then, too: a registry may have got its list since."""
    wrong.serve(REFERRERS, index())
    wrong.serve(FALLBACK, index(wrong.artifact(RIGHT)))
    assert is_right(search(wrong))


def test_a_mirror_that_knows_of_nothing(wrong: Wrong) -> None:
    """It hides nothing of what the registry itself lists."""
    mirror = Wrong()
    mirror.serve(REFERRERS, index())
    wrong.serve(REFERRERS, index(wrong.artifact(RIGHT)))

    found = search(wrong, hosts=(mirror.host,), mirrors={wrong.host: (mirror.host,)})

    mirror.close()
    assert is_right(found)
    assert found.told == ()
    assert REFERRERS in mirror.asked


def test_nobody_is_there(wrong: Wrong) -> None:
    wrong.close()
    with pytest.raises(RegistryError, match="cannot be reached"):
        search(wrong)
