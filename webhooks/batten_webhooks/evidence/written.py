"""What was read of a scan, written for others: as a predicate to attest, and with VEX. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from batten_webhooks.evidence.judge import moment
from batten_webhooks.evidence.model import ScanEvidence, Statement, Vex
from batten_webhooks.evidence.readers import cosign_vuln, grype, trivy
from batten_webhooks.evidence.readers.common import present
from batten_webhooks.reference import InvalidReference, parse_reference

VULNS = "https://in-toto.io/attestation/vulns/v0.2"
# What cosign's predicate holds as a whole, with where its scanner comes from.
_WHOLE = (
    (trivy.READER.keys, "pkg:github/aquasecurity/trivy"),
    (grype.READER.keys, "pkg:github/anchore/grype"),
)
# Where scanners say which image they were asked for.
_NAMES = (
    ("ArtifactName",),
    ("source", "target", "userInput"),
    ("metadata", "component", "name"),
    ("scanner", "result", "ArtifactName"),
    ("scanner", "result", "source", "target", "userInput"),
    ("predicate", "scanner", "result", "ArtifactName"),
)


class Predicate(Struct, frozen=True):
    """`type` is what `cosign attest --type` is given, a word of its own or a URI."""

    type: str
    value: dict[str, Any]


def predicate(data: bytes, evidence: ScanEvidence) -> Predicate:
    """Of a document and what was read of it. Trivy's and Grype's results are kept as a whole in
    cosign's own predicate; of others what in-toto's has room for is left, without packages."""
    keys = present(data, cosign_vuln.READER.keys.union(*(keys for keys, _ in _WHOLE)))
    if cosign_vuln.READER.keys <= keys:
        return Predicate(cosign_vuln.WORD, msgspec.json.decode(data))
    package = next((package for needed, package in _WHOLE if needed <= keys), "")
    # RFC 3339, as both predicates have it.
    times = dict.fromkeys(("scanStartedOn", "scanFinishedOn"), moment(evidence.scanned))
    if not package:
        return Predicate(VULNS, {"scanner": _scanner(evidence), "metadata": times})
    scanner = {
        "uri": f"{package}@{quote(evidence.version)}" if evidence.version else package,
        "version": evidence.version,
        "db": {"uri": "", "version": ""},
        "result": msgspec.json.decode(data),
    }
    invocation = {"parameters": None, "uri": "", "event_id": "", "builder.id": ""}
    value = {"invocation": invocation, "scanner": scanner, "metadata": times}
    return Predicate(cosign_vuln.WORD, value)


def _scanner(evidence: ScanEvidence) -> dict[str, Any]:
    """Of several findings of one name the worst is what counts; readers look for it."""
    database = {"lastUpdate": moment(evidence.database)} if evidence.database else {}
    return {
        "uri": f"pkg:generic/{quote(evidence.scanner, safe='')}",
        "version": evidence.version,
        "db": database,
        "result": [
            {"id": each.id, "severity": [{"method": "scanner", "score": each.severity}]}
            for each in evidence.vulnerabilities
        ],
    }


def with_vex(evidence: ScanEvidence, documents: Iterable[Vex]) -> ScanEvidence:
    """With the statements that are on what was found in this very image."""
    found = {name for each in evidence.vulnerabilities for name in (each.id, *each.aliases)}
    said = [
        msgspec.structs.replace(each, products=frozenset())
        for document in documents
        for each in document.statements
        if _concerns(each, document, evidence.digests) and not found.isdisjoint(each.names)
    ]
    return msgspec.structs.replace(evidence, statements=(*evidence.statements, *said))


def _concerns(statement: Statement, document: Vex, digests: frozenset[str]) -> bool:
    """What names no product is about whatever it is given with."""
    products = statement.products or document.digests
    return not products or not products.isdisjoint(digests)


def image_of(data: bytes) -> str:
    """The image that a scanner says it was asked for; "" where there is none."""
    value = msgspec.json.decode(data)
    for path in _NAMES:
        found = value
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, str):
            try:
                return str(parse_reference(found))
            except InvalidReference:
                continue
    return ""
