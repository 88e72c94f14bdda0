"""The predicate of `cosign attest --type vuln`, which `trivy image --format cosign-vuln` writes.

https://github.com/sigstore/cosign/blob/main/specs/COSIGN_VULN_ATTESTATION_SPEC.md. What the scanner
itself wrote is in it as a whole.
"""

from __future__ import annotations

import msgspec

from batten_webhooks.evidence.model import ScanEvidence, Unreadable
from batten_webhooks.evidence.readers import grype, trivy
from batten_webhooks.evidence.readers.common import (
    Encoded,
    Reader,
    Shape,
    decode,
    moment,
    older,
    present,
    text,
)

FORMAT = "cosign vuln predicate"
KIND = "https://cosign.sigstore.dev/attestation/vuln/v1"
# What `cosign attest --type` calls it.
WORD = "vuln"
_RESULTS = ((trivy.READER.keys, trivy.read), (grype.READER.keys, grype.read))


class Scanner(Shape):
    result: msgspec.Raw
    version: str = ""


class Metadata(Shape, rename="camel"):
    scan_finished_on: str = ""


class Predicate(Shape):
    scanner: Scanner
    metadata: Metadata | None = None


def read(data: Encoded) -> ScanEvidence:
    predicate = decode(data, Predicate, FORMAT)
    scanner, metadata = predicate.scanner, predicate.metadata or Metadata()
    found = present(scanner.result, frozenset().union(*(keys for keys, _ in _RESULTS)))
    read_result = next((read for keys, read in _RESULTS if keys <= found), None)
    if read_result is None:
        raise Unreadable("has a scanner.result that is no Trivy JSON and no Grype JSON")
    result = read_result(scanner.result)
    return msgspec.structs.replace(
        result,
        version=result.version or text(scanner.version),
        # Trivy writes the time of the conversion here, which may be long after the scan.
        scanned=older(result.scanned, moment(metadata.scan_finished_on)),
    )


READER = Reader(FORMAT, frozenset(("scanner", "metadata")), read)
