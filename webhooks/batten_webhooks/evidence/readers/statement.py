"""in-toto statements, as far as their predicates are evidence.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. Whether the signature holds,
and of whom it is, has been asked before.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from batten_webhooks.evidence.model import Document, NotEvidence, Unreadable
from batten_webhooks.evidence.readers import cosign_vuln, cyclonedx, in_toto_vulns, openvex
from batten_webhooks.evidence.readers.common import (
    Encoded,
    Reader,
    Shape,
    decode,
    digests,
    text,
)

FORMAT = "in-toto statement"
_READ: dict[str, Callable[[Encoded], Document]] = {
    cosign_vuln.KIND: cosign_vuln.read,
    **dict.fromkeys(in_toto_vulns.KINDS, in_toto_vulns.read),
}
# Of these a version may follow, as `/v0.2.0`.
_VERSIONED: dict[str, Callable[[Encoded], Document]] = {
    openvex.KIND: openvex.read,
    cyclonedx.KIND: cyclonedx.read,
}


class Digests(Shape):
    sha256: str = ""
    sha512: str = ""


class Subject(Shape):
    digest: Digests


class Statement(Shape, rename="camel"):
    predicate_type: str
    subject: list[Subject]
    predicate: msgspec.Raw


def read(data: Encoded) -> Document:
    statement = decode(data, Statement, FORMAT)
    subjects = (subject.digest for subject in statement.subject)
    named = digests(
        name for one in subjects for name in (f"sha256:{one.sha256}", f"sha512:{one.sha512}")
    )
    return read_predicate(statement.predicate_type, statement.predicate, named)


def read_predicate(kind: str, predicate: Encoded, subjects: frozenset[str]) -> Document:
    """Raises NotEvidence for a kind that says nothing of vulnerabilities, and Unreadable."""
    document = _reader(kind)(predicate)
    return msgspec.structs.replace(document, digests=document.digests | digests(subjects))


def _reader(kind: str) -> Callable[[Encoded], Document]:
    if not isinstance(kind, str):
        kind = ""
    if kind in _READ:
        return _READ[kind]
    for start, read_it in _VERSIONED.items():
        if kind == start or kind.startswith(f"{start}/"):
            return read_it
    raise NotEvidence(f"has the predicate {text(kind)!r}, which tells of no vulnerabilities")


def _sealed(data: Encoded) -> Document:
    raise Unreadable(
        "is a signed envelope: leave it beside the image, where its signature is checked, or give "
        "what the scanner wrote"
    )


READER = Reader(FORMAT, frozenset(("predicateType",)), read)
ENVELOPE = Reader("DSSE envelope", frozenset(("payloadType",)), _sealed)
