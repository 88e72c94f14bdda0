"""Evidence as scanners write it, one format a file. Total: whatever the bytes, a Document or
Unreadable, in bounded time and memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batten_webhooks.evidence.model import Document, ScanEvidence, Unreadable
from batten_webhooks.evidence.readers import (
    cosign_vuln,
    cyclonedx,
    grype,
    openvex,
    sarif,
    statement,
    trivy,
    trivy_operator,
)
from batten_webhooks.evidence.readers.common import Reader, bounded, encode, present

READERS: tuple[Reader, ...] = (
    trivy.READER,
    grype.READER,
    trivy_operator.READER,
    cosign_vuln.READER,
    statement.READER,
    cyclonedx.READER,
    sarif.READER,
    openvex.READER,
)
_KEYS = frozenset().union(*(reader.keys for reader in READERS), statement.ENVELOPE.keys)


def read(data: bytes) -> Document:
    """A file's bytes in any of the formats, told by what is in it.

    Raises Unreadable, whose message completes "FILE …".
    """
    data = bounded(data.removeprefix(b"\xef\xbb\xbf"))
    keys = present(data, _KEYS)
    for reader in (*READERS, statement.ENVELOPE):
        if reader.keys <= keys:
            return reader.read(data)
    formats = ", ".join(reader.format for reader in READERS)
    raise Unreadable(f"is in no format that Batten understands, which are: {formats}")


def read_report(value: Mapping[str, Any]) -> ScanEvidence:
    """An object of the API, a VulnerabilityReport or ClusterVulnerabilityReport.

    Raises Unreadable, whose message completes "OBJECT …".
    """
    return trivy_operator.read(encode(value))


def read_predicate(kind: str, predicate: Any, subjects: frozenset[str]) -> Document:
    """Of an in-toto statement whose signature holds: its predicateType, predicate and subjects.

    Raises NotEvidence for a predicate that says nothing of vulnerabilities, and Unreadable; the
    messages complete "ATTESTATION …".
    """
    return statement.read_predicate(kind, encode(predicate), subjects)
