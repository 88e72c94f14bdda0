"""Attestations as whoever holds a key could make them, right ones and wrong ones."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ENVELOPE = "application/vnd.dsse.envelope.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://example.com/predicate"


def pre_authentication(kind: str, payload: bytes) -> bytes:
    return b" ".join((b"DSSEv1", b"%d" % len(kind), kind.encode(), b"%d" % len(payload), payload))


@dataclass(frozen=True)
class Signer:
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def fresh(cls) -> Signer:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> str:
        return pem(self.key.public_key())

    def signature(self, payload: bytes, kind: str = IN_TOTO) -> bytes:
        return self.key.sign(pre_authentication(kind, payload), ec.ECDSA(hashes.SHA256()))

    def sign(self, payload: bytes, kind: str = IN_TOTO) -> bytes:
        return envelope(payload, self.signature(payload, kind), kind=kind)


def pem(public: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    text: bytes = public.public_bytes(encoding, form)
    return text.decode()


def statement(
    digest: str,
    predicate: Any = None,
    kind: str = STATEMENT,
    *,
    predicate_type: str = PREDICATE,
) -> bytes:
    algorithm, _, digits = digest.partition(":")
    subjects = [{"name": "image", "digest": {algorithm: digits}}]
    return json.dumps(
        {
            "_type": kind,
            "subject": subjects,
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    ).encode()


def envelope(payload: bytes, *signatures: bytes, kind: str = IN_TOTO) -> bytes:
    return json.dumps(
        {
            "payloadType": kind,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {"keyid": "", "sig": base64.b64encode(each).decode()} for each in signatures
            ],
        }
    ).encode()


def bundle(enveloped: bytes, **material: Any) -> bytes:
    return json.dumps(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": material or {"publicKey": {"hint": "nobody's"}},
            "dsseEnvelope": json.loads(enveloped),
        }
    ).encode()
