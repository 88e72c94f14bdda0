"""Certificates as an API server judges them: by a real handshake, at every step of a rotation."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from batten_serving import trusting
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from batten_operator.certificates import (
    MAX_NAMES,
    Pair,
    Store,
    expiry,
    fresh,
    from_data,
    renewal,
    step,
    to_data,
)
from batten_operator.tls import ServingCertificate

NAMES = ("batten-webhook.batten-system.svc", "127.0.0.1", "::1")
DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)


def handshake(pair: Pair, bundle: bytes, name: str = NAMES[0]) -> None:
    """A TLS handshake in memory. Raises ssl.SSLError where the client does not trust the server."""
    serving = ServingCertificate()
    assert serving.load(pair)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(bundle).wrap_bio(down, up, server_hostname=name)
    server = serving.context.wrap_bio(up, down, server_side=True)
    for side in (client, server, client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


def advance(store: Store, now: datetime, *, trusted: bool = False) -> Store | None:
    return step(store, NAMES, DAY, now, trusted=trusted)


@pytest.mark.parametrize("name", NAMES)
def test_a_first_certificate_is_trusted_under_each_name(name: str) -> None:
    store = fresh(NAMES, DAY, NOW)
    handshake(store.serving, store.bundle, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        handshake(store.serving, store.bundle, "kubernetes.default.svc")


def test_what_is_issued() -> None:
    store = fresh(NAMES, DAY, NOW)
    certificate = x509.load_pem_x509_certificate(store.serving.certificate)
    (authority,) = x509.load_pem_x509_certificates(store.bundle)
    for each in (certificate, authority):
        key = each.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert each.not_valid_after_utc == NOW + DAY
        assert each.not_valid_before_utc < NOW
    assert b"PRIVATE" not in store.bundle
    assert sorted(to_data(store)) == ["ca.crt", "tls.crt", "tls.key"]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value.ca is False
    assert expiry(store.serving) == NOW + DAY
    assert renewal(store) == NOW + DAY * 2 / 3


def test_two_certificates_never_trust_each_other() -> None:
    one, other = fresh(NAMES, DAY, NOW), fresh(NAMES, DAY, NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(one.serving, other.bundle)


def test_a_rotation_never_serves_what_is_not_trusted() -> None:
    """At each step every certificate that a replica may still serve is trusted by each bundle
    that an API server may still know."""
    begin = NOW - DAY * 0.8
    first = fresh(NAMES, DAY, begin)
    assert advance(first, begin + DAY * 0.6) is None
    staged = advance(first, begin + DAY * 0.7)
    assert staged is not None
    assert staged.staged is not None
    assert staged.serving == first.serving
    handshake(staged.serving, first.bundle)
    handshake(staged.serving, staged.bundle)

    assert advance(staged, begin + DAY * 0.71) is None
    promoted = advance(staged, begin + DAY * 0.71, trusted=True)
    assert promoted is not None
    assert promoted.serving == staged.staged
    assert promoted.staged is None
    assert promoted.bundle == staged.bundle
    handshake(first.serving, promoted.bundle)
    handshake(promoted.serving, staged.bundle)
    assert advance(promoted, begin + DAY * 0.72, trusted=True) is None

    again = advance(promoted, begin + DAY * 1.5)
    assert again is not None
    assert len(x509.load_pem_x509_certificates(again.bundle)) == 2
    handshake(again.serving, again.bundle)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(first.serving, again.bundle)


def test_names_that_are_missing_are_added_and_none_is_dropped() -> None:
    """Replicas of two versions run side by side for a while: neither undoes the other's names."""
    old = fresh(("old.example",), DAY, NOW)
    staged = step(old, ("new.example", "10.0.0.1"), DAY, NOW, trusted=False)
    assert staged is not None
    promoted = step(staged, ("new.example", "10.0.0.1"), DAY, NOW, trusted=True)
    assert promoted is not None
    for name in ("old.example", "new.example", "10.0.0.1"):
        handshake(promoted.serving, promoted.bundle, name)
    assert step(promoted, ("old.example",), DAY, NOW, trusted=True) is None
    assert step(promoted, ("NEW.example",), DAY, NOW, trusted=True) is None


def test_names_do_not_pile_up() -> None:
    store = fresh([f"n{number}.example" for number in range(MAX_NAMES)], DAY, NOW)
    staged = step(store, ("new.example",), DAY, NOW, trusted=False)
    assert staged is not None
    assert staged.staged is not None
    certificate = x509.load_pem_x509_certificate(staged.staged.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["new.example"]


def test_after_a_long_sleep_all_is_new() -> None:
    store = fresh(NAMES, DAY, NOW - DAY * 3)
    renewed = advance(store, NOW)
    assert renewed is not None
    handshake(renewed.serving, renewed.bundle)
    assert len(x509.load_pem_x509_certificates(renewed.bundle)) == 1


def test_what_was_staged_replaces_what_expired() -> None:
    store = fresh(NAMES, DAY, NOW - DAY * 0.9)
    staged = advance(store, NOW)
    assert staged is not None
    promoted = advance(staged, NOW + DAY * 0.2)
    assert promoted is not None
    assert promoted.serving == staged.staged


def test_the_secret_holds_all_of_it() -> None:
    first = fresh(NAMES, DAY, NOW - DAY * 0.9)
    staged = advance(first, NOW)
    assert staged is not None
    assert from_data(to_data(first)) == first
    assert from_data(to_data(staged)) == staged


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"tls.crt": ""}, "tls.crt is missing"),
        ({"tls.key": "*"}, "tls.key is no base64"),
        ({"tls.crt": "aGk="}, "tls.crt is no PEM certificate"),
        ({"tls.key": "aGk="}, "tls.key is no unencrypted PEM key"),
        ({"tls.key": "OTHER"}, "tls.key is not the key of tls.crt"),
        ({"ca.crt": "aGk="}, "ca.crt holds no PEM certificates"),
        ({"ca.crt": "OTHER"}, "ca.crt holds no CA that signed the certificate"),
        ({"next.crt": "aGk="}, "next.crt is no PEM certificate"),
        ({"next.crt": "OTHER", "next.key": ""}, "next.key is no unencrypted PEM key"),
    ],
)
def test_a_broken_secret_is_named(broken: dict[str, str], message: str) -> None:
    data, other = to_data(fresh(NAMES, DAY, NOW)), to_data(fresh(NAMES, DAY, NOW))
    for key, value in broken.items():
        data[key] = other[key.replace("next", "tls")] if value == "OTHER" else value
    with pytest.raises(ValueError, match=message):
        from_data(data)


def test_a_bad_pair_is_logged_and_the_old_one_kept(caplog: pytest.LogCaptureFixture) -> None:
    store, other = fresh(NAMES, DAY, NOW), fresh(NAMES, DAY, NOW)
    serving = ServingCertificate()
    assert serving.load(store.serving)
    for bad in (
        replace(store.serving, key=other.serving.key),
        Pair(b"", b""),
        replace(store.serving, certificate=b"rubbish"),
    ):
        assert not serving.load(bad)
    assert serving.pair == store.serving
    assert len([r for r in caplog.records if "the one before is kept" in r.getMessage()]) == 3
    assert "PRIVATE" not in caplog.text


def test_a_reload_touches_no_connection() -> None:
    """A connection from before goes on; the next one is shown the new certificate."""
    old, new = fresh(("localhost",), DAY, NOW), fresh(("localhost",), DAY, NOW)
    serving = ServingCertificate()
    assert serving.load(old.serving)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)

    async def connect(
        port: int, bundle: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("localhost", port, ssl=trusting(bundle))

    async def main() -> None:
        server = await asyncio.start_server(echo, "localhost", 0, ssl=serving.context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await connect(port, old.bundle)
        assert serving.load(new.serving)
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        _, fresh_writer = await connect(port, new.bundle)
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(port, old.bundle)
        for each in (writer, fresh_writer):
            each.close()
        server.close()

    asyncio.run(main())
