"""Whether an attestation counts: DSSE envelopes and the in-toto statements in them. Pure.

https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md and
https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/statement.md; bundles are those of
https://github.com/sigstore/protobuf-specs (v0.3). Nothing of a payload is parsed before its
signature has been checked, and key IDs, which nobody signs, are ignored.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from batten_webhooks.evidence.attestations.keyless import payload_of
from batten_webhooks.evidence.attestations.keys import Signed, parse_keys
from batten_webhooks.evidence.attestations.model import Candidate, Rejected, Trust, Verified
from batten_webhooks.messages import printable

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENTS = frozenset(("https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"))
MOST_SIGNATURES = 10

S = TypeVar("S", bound=Struct)


class _Signature(Struct):
    sig: str = ""


class _Envelope(Struct):
    payload: str = ""
    payload_type: str = field(default="", name="payloadType")
    signatures: list[_Signature] | None = None


class _Material(Struct):
    """Who signed a bundle: a public key, or a certificate."""

    certificate: Any = None


class _Stored(_Envelope):
    """An envelope, as cosign 2 stores it, or one in a bundle, as cosign 3 does."""

    bundled: _Envelope | None = field(default=None, name="dsseEnvelope")
    material: _Material | None = field(default=None, name="verificationMaterial")


class _Subject(Struct):
    digest: dict[str, str] | None = None


class _Statement(Struct):
    kind: str = field(name="_type")
    subject: list[_Subject]
    predicate_type: str = field(name="predicateType")
    predicate: Any = None


def verify(
    candidate: Candidate, trust: Trust, digests: frozenset[str], root: Path | None = None
) -> Verified:
    """The statement, if it is signed by one who is trusted and about one of the digests.

    `root` is the file of a trusted root of Sigstore, for signatures without a key. Takes as long as
    signatures take, and seconds for the first one without a key: not for an event loop. Raises
    Rejected.
    """
    return bound(check(candidate, trust, root), digests)


def check(candidate: Candidate, trust: Trust, root: Path | None = None) -> Verified:
    """The statement, whatever it is about. Raises Rejected."""
    stored = _decode(
        candidate.data, _Stored, "no DSSE envelope, nor a bundle of Sigstore's with one"
    )
    envelope = stored.bundled or stored
    signatures = [each.sig for each in envelope.signatures or () if each.sig]
    if not signatures:
        raise Rejected("unsigned", "has no signature")
    if len(signatures) > MOST_SIGNATURES:
        raise Rejected("unreadable", f"has more than {MOST_SIGNATURES} signatures")
    if envelope.payload_type != PAYLOAD_TYPE:
        told = printable(envelope.payload_type)[:200]
        raise Rejected("unreadable", f"holds {told!r}, not a statement of in-toto")
    if stored.material is not None and stored.material.certificate is not None:
        payload = payload_of(candidate.data, trust, root)
    else:
        payload = _signed_payload(envelope, signatures, trust)
    return _statement(payload, candidate.digest)


def bound(verified: Verified, digests: frozenset[str]) -> Verified:
    """Itself. Raises Rejected where it is about none of the digests."""
    if verified.subjects & digests:
        return verified
    raise Rejected("foreign", "is about another image")


def _signed_payload(envelope: _Envelope, signatures: list[str], trust: Trust) -> bytes:
    try:
        keys = parse_keys(trust.keys)
    except ValueError as error:
        raise Rejected("unsupported", f"cannot be checked: {error}") from None
    if not keys:
        raise Rejected("forged", "is signed with a key, and no key is trusted")
    payload = _base64(envelope.payload)
    signed = Signed(_pre_authentication(envelope.payload_type.encode(), payload))
    if any(signed.by(key, _base64(each)) for each in signatures for key in keys):
        return payload
    if signed.unsure:
        told = "PyNaCl (batten[attestations]) is missing"
        raise Rejected("unsupported", f"may be signed with Ed25519ph, as cosign 3 does: {told}")
    one = "the trusted key" if len(keys) == 1 else f"any of the {len(keys)} trusted keys"
    raise Rejected("forged", f"is not signed with {one}")


def _pre_authentication(kind: bytes, payload: bytes) -> bytes:
    """DSSE's PAE, which is what is signed."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _statement(payload: bytes, digest: str) -> Verified:
    found = _decode(payload, _Statement, "no statement of in-toto")
    if found.kind not in STATEMENTS:
        told = printable(found.kind)[:200]
        raise Rejected("unreadable", f"is a statement of an unknown version, {told!r}")
    subjects = frozenset(
        f"{algorithm}:{digits}"
        for subject in found.subject
        for algorithm, digits in (subject.digest or {}).items()
    )
    return Verified(found.predicate_type, found.predicate, subjects, digest)


def _base64(text: str) -> bytes:
    """Standard or for URLs: "Either standard or URL-safe encoding is allowed"."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("unreadable", "has a payload or a signature that is not base64") from None


def _decode(data: bytes, shape: type[S], what: str) -> S:
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Rejected("unreadable", f"is {what}") from None
