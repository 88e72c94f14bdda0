"""A Sigstore of one's own, offline: a certificate authority as Fulcio is one, its certificate
transparency log, and a log of one entry as Rekor keeps it. It signs attestations without a key.

The formats are those of RFC 6962 (3.2, 3.3) for the logs, of
https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md for the certificates, and of
https://github.com/transparency-dev/formats/blob/main/log/README.md for the checkpoint.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from batten_dsse import bundle, envelope, pre_authentication
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

IN_TOTO = "application/vnd.in-toto+json"
ISSUER_OID = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
OLD_ISSUER_OID = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
SCT_OID = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
LIFETIME = timedelta(minutes=10)

Json = dict[str, Any]


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Sigstore:
    root: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    certificates: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    log: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __post_init__(self) -> None:
        name = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, "tests"),
        ]
        usage = _usage(key_cert_sign=True, crl_sign=True)
        self.name = x509.Name(name)
        self.authority = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.root.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(days=1))
            .not_valid_after(self.now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.root.public_key()), critical=False
            )
            .sign(self.root, hashes.SHA256())
        )

    def write(self, file: Path) -> Path:
        """The trusted root, as https://github.com/sigstore/protobuf-specs has it."""
        authority = {
            "subject": {"organization": "tests", "commonName": "tests"},
            "uri": "https://fulcio.example",
            "certChain": {"certificates": [{"rawBytes": _base64(_der(self.authority))}]},
            "validFor": {"start": _time(self.now - timedelta(days=1))},
        }
        file.write_text(
            json.dumps(
                {
                    "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                    "tlogs": [self._instance(self.log, "https://rekor.example")],
                    "ctlogs": [self._instance(self.certificates, "https://ct.example")],
                    "certificateAuthorities": [authority],
                }
            )
        )
        return file

    def sign(
        self, payload: bytes, identity: str, issuer: str, *, late: timedelta = timedelta()
    ) -> bytes:
        """A bundle that `identity` signs, `late` after it was given its certificate."""
        key = _key()
        certificate = self._certificate(key, identity, issuer)
        signature = key.sign(pre_authentication(IN_TOTO, payload), ec.ECDSA(hashes.SHA256()))
        entry = self._entry(payload, signature, certificate, self.now + late)
        return bundle(
            envelope(payload, signature),
            certificate={"rawBytes": _base64(_der(certificate))},
            tlogEntries=[entry],
        )

    def _instance(self, key: ec.EllipticCurvePrivateKey, url: str) -> Json:
        start = _time(self.now - timedelta(days=1))
        return {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": _base64(_public(key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": start},
            },
            "logId": {"keyId": _base64(_key_id(key))},
        }

    def _certificate(
        self, key: ec.EllipticCurvePrivateKey, identity: str, issuer: str
    ) -> x509.Certificate:
        """With a timestamp of the certificates' log over what it says otherwise."""
        text = issuer.encode()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(minutes=1))
            .not_valid_after(self.now + LIFETIME)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.root.public_key()),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]),
                critical=True,
            )
            .add_extension(x509.UnrecognizedExtension(OLD_ISSUER_OID, text), critical=False)
            .add_extension(
                x509.UnrecognizedExtension(ISSUER_OID, b"\x0c" + _length(text)), critical=False
            )
        )
        unlogged = builder.sign(self.root, hashes.SHA256())
        timestamp = self._certificate_timestamp(unlogged.tbs_certificate_bytes)
        listed = struct.pack("!HH", len(timestamp) + 2, len(timestamp)) + timestamp
        extension = x509.UnrecognizedExtension(SCT_OID, b"\x04" + _length(listed))
        return builder.add_extension(extension, critical=False).sign(self.root, hashes.SHA256())

    def _certificate_timestamp(self, to_be_signed: bytes) -> bytes:
        milliseconds = int(self.now.timestamp() * 1000)
        issuer = hashlib.sha256(_public(self.root)).digest()
        entry = issuer + struct.pack("!I", len(to_be_signed))[1:] + to_be_signed
        signed = struct.pack("!BBQH", 0, 0, milliseconds, 1) + entry + struct.pack("!H", 0)
        signature = self.certificates.sign(signed, ec.ECDSA(hashes.SHA256()))
        head = struct.pack("!B32sQH", 0, _key_id(self.certificates), milliseconds, 0)
        return head + struct.pack("!BBH", 4, 3, len(signature)) + signature

    def _entry(
        self, payload: bytes, signature: bytes, certificate: x509.Certificate, at: datetime
    ) -> Json:
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        enveloped = envelope(payload, signature)
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": _sha256(enveloped).hex()},
            "payloadHash": {"algorithm": "sha256", "value": _sha256(payload).hex()},
            "signatures": [{"signature": _base64(signature), "verifier": _base64(pem)}],
        }
        body = _canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        seconds, log_id = int(at.timestamp()), _key_id(self.log)
        promise = {
            "body": _base64(body),
            "integratedTime": seconds,
            "logID": log_id.hex(),
            "logIndex": 0,
        }
        root = _sha256(b"\x00" + body)
        return {
            "logIndex": "0",
            "logId": {"keyId": _base64(log_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(seconds),
            "inclusionPromise": {"signedEntryTimestamp": _base64(self._log(_canonical(promise)))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _base64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": self._checkpoint(root)},
            },
            "canonicalizedBody": _base64(body),
        }

    def _checkpoint(self, root: bytes) -> str:
        note = f"rekor.example - 1\n1\n{_base64(root)}\n"
        signature = _key_id(self.log)[:4] + self._log(note.encode())
        return f"{note}\n\N{EM DASH} rekor.example {_base64(signature)}\n"

    def _log(self, data: bytes) -> bytes:
        return self.log.sign(data, ec.ECDSA(hashes.SHA256()))


def _usage(**said: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: said.get(name, False) for name in names})


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, form)


def _key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return _sha256(_public(key))


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _length(data: bytes) -> bytes:
    """DER's, before the data."""
    size = len(data)
    head = bytes((size,)) if size < 128 else bytes((0x81, size))
    return head + data


def _canonical(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
