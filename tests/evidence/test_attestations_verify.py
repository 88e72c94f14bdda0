"""What makes an attestation count: envelopes that are wrong in each way, and keys that are none."""

from __future__ import annotations

import base64
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from batten_cosign import KINDS, private_key
from batten_dsse import (
    IN_TOTO,
    PREDICATE,
    Signer,
    bundle,
    envelope,
    pem,
    pre_authentication,
    statement,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.evidence.attestations.keys import MOST_KEYS, parse_keys
from batten_webhooks.evidence.attestations.model import Candidate, Rejected, Trust, Verified
from batten_webhooks.evidence.attestations.verify import MOST_SIGNATURES, verify

DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'c' * 64}"
SIGNER, STRANGER = Signer.fresh(), Signer.fresh()
PAYLOAD = statement(DIGEST, {"x": 1})
TRUST = Trust((SIGNER.public,))


def judge(data: bytes, trust: Trust = TRUST, *digests: str) -> Verified:
    candidate = Candidate(f"sha256:{'b' * 64}", DIGEST, data)
    return verify(candidate, trust, frozenset(digests or (DIGEST,)))


def rejection(data: bytes, trust: Trust = TRUST) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        judge(data, trust)
    return caught.value.reason, str(caught.value)


# --- envelopes ------------------------------------------------------------------------------------


def test_the_pre_authentication_encoding() -> None:
    """The example of DSSE's protocol.md."""
    encoded = pre_authentication("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@pytest.mark.parametrize("kind", ["v0.1", "v1"])
def test_a_right_one(kind: str) -> None:
    payload = statement(DIGEST, {"x": 1}, kind=f"https://in-toto.io/Statement/{kind}")
    for data in (SIGNER.sign(payload), bundle(SIGNER.sign(payload))):
        found = judge(data, TRUST, OTHER, DIGEST)
        assert (found.kind, found.predicate) == (PREDICATE, {"x": 1})
        assert found.subjects == {DIGEST}


def test_any_key_and_any_signature() -> None:
    signatures = (b"nonsense", STRANGER.signature(PAYLOAD), SIGNER.signature(PAYLOAD))
    trust = Trust((Signer.fresh().public, SIGNER.public))
    assert judge(envelope(PAYLOAD, *signatures), trust).subjects == {DIGEST}


def test_base64_for_urls() -> None:
    found: Any = json.loads(SIGNER.sign(statement(DIGEST, "\u00ff\u00fe\u00fb?>" * 40)))
    for place, name in ((found, "payload"), (found["signatures"][0], "sig")):
        place[name] = base64.urlsafe_b64encode(base64.b64decode(place[name])).decode()
    assert judge(json.dumps(found).encode()).subjects == {DIGEST}


def test_key_ids_mean_nothing() -> None:
    found: Any = json.loads(SIGNER.sign(PAYLOAD))
    found["signatures"][0]["keyid"] = "another one's"
    assert judge(json.dumps(found).encode()).subjects == {DIGEST}


@pytest.mark.parametrize("signatures", [None, [], [{}], [{"sig": ""}], [{"keyid": "x"}]])
def test_unsigned(signatures: Any) -> None:
    found: Any = json.loads(envelope(PAYLOAD))
    found["signatures"] = signatures
    assert rejection(json.dumps(found).encode()) == ("unsigned", "has no signature")
    wrapped = bundle(json.dumps(found).encode())
    assert rejection(wrapped) == ("unsigned", "has no signature")


def test_a_thousand_signatures() -> None:
    """The right one is among them; nobody tries them all."""
    many = [SIGNER.signature(PAYLOAD)] * 1000
    told = f"has more than {MOST_SIGNATURES} signatures"
    assert rejection(envelope(PAYLOAD, *many)) == ("unreadable", told)


def test_another_payload_type() -> None:
    data = SIGNER.sign(PAYLOAD, "application/vnd.example")
    told = "holds 'application/vnd.example', not a statement of in-toto"
    assert rejection(data) == ("unreadable", told)


def test_a_payload_type_that_was_not_signed() -> None:
    signature = SIGNER.signature(PAYLOAD, "application/vnd.example")
    told = "is not signed with the trusted key"
    assert rejection(envelope(PAYLOAD, signature)) == ("forged", told)


def test_another_payload() -> None:
    data = envelope(statement(DIGEST, {"x": 2}), SIGNER.signature(PAYLOAD))
    assert rejection(data) == ("forged", "is not signed with the trusted key")


def test_nobody_is_trusted() -> None:
    told = "is signed with a key, and no key is trusted"
    assert rejection(SIGNER.sign(PAYLOAD), Trust()) == ("forged", told)


def test_a_signature_over_the_payload_alone() -> None:
    signature = SIGNER.key.sign(PAYLOAD, ec.ECDSA(hashes.SHA256()))
    assert rejection(envelope(PAYLOAD, signature))[0] == "forged"


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "is no statement of in-toto"),
        (b"[" * 10_000, "is no statement of in-toto"),
        (b'{"_type": "https://in-toto.io/Statement/v1"}', "is no statement of in-toto"),
        (
            statement(DIGEST, kind="https://in-toto.io/Statement/v9"),
            "is a statement of an unknown version, 'https://in-toto.io/Statement/v9'",
        ),
    ],
)
def test_no_statement(payload: bytes, told: str) -> None:
    assert rejection(SIGNER.sign(payload)) == ("unreadable", told)


@pytest.mark.parametrize(
    "digest",
    [
        OTHER,
        DIGEST.upper(),
        f"sha512:{'a' * 64}",
        "sha256:",
        f"sha256:{'a' * 63}",
        f"gitCommit:{'a' * 40}",
    ],
)
def test_another_subject(digest: str) -> None:
    assert rejection(SIGNER.sign(statement(digest))) == ("foreign", "is about another image")


def test_no_subject() -> None:
    subjects: list[Any] = [[], [{}], [{"name": DIGEST}], [{"digest": None}]]
    for subject in subjects:
        said: Any = json.loads(PAYLOAD)
        said["subject"] = subject
        assert rejection(SIGNER.sign(json.dumps(said).encode()))[0] == "foreign"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"dsseEnvelope": ' * 5000,
        b'{"payload": 1}',
        b'{"dsseEnvelope": []}',
        b'{"signatures": [{"sig": {}}]}',
    ],
)
def test_no_envelope(data: bytes) -> None:
    told = "is no DSSE envelope, nor a bundle of Sigstore's with one"
    assert rejection(data) == ("unreadable", told)


def test_no_base64() -> None:
    found: Any = json.loads(SIGNER.sign(PAYLOAD))
    found["payload"] += "\u00e9"
    told = "has a payload or a signature that is not base64"
    assert rejection(json.dumps(found).encode()) == ("unreadable", told)


def test_the_payload_beside_a_bundle_is_not_read() -> None:
    """Of two envelopes in one file, the one that was checked is the one that counts."""
    both: Any = json.loads(bundle(SIGNER.sign(PAYLOAD)))
    both |= json.loads(envelope(statement(OTHER), b"x"))
    assert judge(json.dumps(both).encode()).subjects == {DIGEST}
    forged: Any = json.loads(bundle(envelope(statement(DIGEST), b"x")))
    forged |= json.loads(SIGNER.sign(PAYLOAD))
    assert rejection(json.dumps(forged).encode())[0] == "forged"


RIGHT = SIGNER.sign(PAYLOAD)


@given(st.integers(0, len(RIGHT) - 1), st.integers(0, 255))
def test_no_byte_that_matters_can_be_changed(place: int, byte: int) -> None:
    """Whatever is changed, it is rejected or means the same."""
    data = RIGHT[:place] + bytes((byte,)) + RIGHT[place + 1 :]
    try:
        found = judge(data)
    except Rejected:
        return
    assert (found.kind, found.predicate) == (PREDICATE, {"x": 1})
    assert found.subjects == {DIGEST}


@given(st.binary() | st.from_regex(rb'\{"(payload|signatures|dsseEnvelope)": .*\}', fullmatch=True))
def test_nothing_but_rejections(data: bytes) -> None:
    with pytest.raises(Rejected):
        judge(data)


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_each_kind(kind: str) -> None:
    key: Any = private_key(kind)
    data, public = pre_authentication(IN_TOTO, PAYLOAD), key.public_key()
    if kind == "rsa":
        signatures = [key.sign(data, padding.PKCS1v15(), hashes.SHA256())]
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
        wrong = [key.sign(data, pss, hashes.SHA256())]
    elif kind == "ed25519":
        signatures, wrong = [key.sign(data)], [key.sign(data + b"x")]
    else:
        own = {"p256": hashes.SHA256(), "p384": hashes.SHA384(), "p521": hashes.SHA512()}[kind]
        signatures = [key.sign(data, ec.ECDSA(each)) for each in (own, hashes.SHA256())]
        wrong = [key.sign(data, ec.ECDSA(hashes.SHA224()))]
    trust = Trust((pem(public),))
    for signature in signatures:
        assert judge(envelope(PAYLOAD, signature), trust).subjects == {DIGEST}
    for signature in wrong:
        assert rejection(envelope(PAYLOAD, signature), trust)[0] == "forged"


def test_ed25519ph_without_pynacl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import fails as it does where `batten[attestations]` is not installed. That signatures
    of cosign 3's are checked with it is in test_attestations_cosign."""
    monkeypatch.setitem(sys.modules, "nacl", None)
    key: Any = private_key("ed25519")
    trust = Trust((pem(key.public_key()), SIGNER.public))
    maybe = envelope(PAYLOAD, b"x" * 64)
    told = (
        "may be signed with Ed25519ph, as cosign 3 does: PyNaCl (batten[attestations]) is missing"
    )
    assert rejection(maybe, trust) == ("unsupported", told)
    also = envelope(PAYLOAD, b"x" * 64, SIGNER.signature(PAYLOAD))
    assert judge(also, trust).subjects == {DIGEST}
    assert rejection(envelope(PAYLOAD, b"x" * 63), trust)[0] == "forged"


def _pem_private(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    text: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return text.decode()


def _certificate() -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(SIGNER.key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(SIGNER.key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _weak() -> str:
    """RSA of 512 bits, which `cryptography` makes no more: any odd number is a modulus to it."""
    return pem(rsa.RSAPublicNumbers(65537, (1 << 511) + 1).public_key())


NO_KEY = "is no public key in PEM (-----BEGIN PUBLIC KEY-----)"
OF_ANOTHER_KIND = "is neither ECDSA on P-256, P-384 or P-521, nor Ed25519 or RSA"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", NO_KEY),
        ("-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n", NO_KEY),
        (
            _pem_private(SIGNER.key),
            "is a private key: give its public half, and make another pair",
        ),
        (_certificate(), "is a certificate: give the public key in it"),
        (SIGNER.public + STRANGER.public, "is more than one: give each by itself"),
        (pem(ec.generate_private_key(ec.SECP256K1()).public_key()), OF_ANOTHER_KIND),
        (pem(ed448.Ed448PrivateKey.generate().public_key()), OF_ANOTHER_KIND),
        (pem(dsa.generate_private_key(2048).public_key()), OF_ANOTHER_KIND),
        (
            pem(rsa.generate_private_key(65537, 1024).public_key()),  # noqa: S505
            "is RSA of 1024 bits: less than 2048 is weak",
        ),
    ],
)
def test_a_key_that_is_none(text: str, told: str) -> None:
    with pytest.raises(ValueError, match="key 2 ") as caught:
        parse_keys((SIGNER.public, text))
    assert str(caught.value) == f"key 2 {told}"
    wrong = Trust((SIGNER.public, text))
    assert rejection(SIGNER.sign(PAYLOAD), wrong) == (
        "unsupported",
        f"cannot be checked: key 2 {told}",
    )


def test_a_key_of_512_bits() -> None:
    """`cryptography` may refuse it by itself; either way it is no key."""
    with pytest.raises(ValueError, match=r"^key 1 (is RSA of 512 bits|is no public key)"):
        parse_keys((_weak(),))


def test_too_many_keys() -> None:
    with pytest.raises(ValueError, match=f"there are {MOST_KEYS + 1} keys: at most {MOST_KEYS}"):
        parse_keys((SIGNER.public,) * (MOST_KEYS + 1))
