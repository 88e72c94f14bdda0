"""in-toto's predicate of vulnerabilities, v0.1 and v0.2.

https://github.com/in-toto/attestation/blob/main/spec/predicates/vuln.md and vulns_02.md. The text
of v0.1 has one object `vulnerability` more than its example, and that both versions have a
`severity` that is an object; all of these are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import field

from batten_webhooks.evidence.model import ScanEvidence, Severity
from batten_webhooks.evidence.readers.common import (
    UNNAMED,
    Encoded,
    Shape,
    decode,
    identifier,
    merged,
    moment,
    severity,
    severity_of_score,
    text,
    vulnerability,
    worst,
)
from batten_webhooks.evidence.readers.purl import package_url

FORMAT = "in-toto vulns predicate"
KINDS = frozenset(
    ("https://in-toto.io/attestation/vulns/v0.1", "https://in-toto.io/attestation/vulns/v0.2")
)


class Rating(Shape):
    score: str | float = ""


class Entry(Shape):
    id: str = ""
    severity: list[Rating] | Rating | None = None


class Wrapped(Entry):
    vulnerability: Entry | None = None


class Database(Shape, rename="camel"):
    last_update: str = ""


class Scanner(Shape):
    result: list[Wrapped]
    uri: str = ""
    version: str = ""
    db: Database | None = None


class Metadata(Shape, rename="camel"):
    scan_finished_on: str = ""


class Predicate(Shape):
    scanner: Scanner
    metadata: Metadata = field(default_factory=Metadata)


def read(data: Encoded) -> ScanEvidence:
    predicate = decode(data, Predicate, FORMAT)
    scanner = predicate.scanner
    url = package_url(scanner.uri)
    return ScanEvidence(
        digests=frozenset(),
        scanner=text(url.package if url else scanner.uri),
        version=text(scanner.version),
        scanned=moment(predicate.metadata.scan_finished_on),
        database=moment(scanner.db.last_update) if scanner.db else 0.0,
        vulnerabilities=merged(
            vulnerability(id=identifier(entry.id) or UNNAMED, severity=worst(_severities(entry)))
            for entry in (wrapped.vulnerability or wrapped for wrapped in scanner.result)
        ),
    )


def _severities(entry: Entry) -> Iterator[Severity]:
    """By each method a word, or a score, of which CVSS's are read."""
    ratings = entry.severity or ()
    for rating in ratings if isinstance(ratings, (list, tuple)) else (ratings,):
        try:
            score = float(rating.score)
        except ValueError:
            yield severity(str(rating.score))
        else:
            yield severity_of_score(score if math.isfinite(score) else -1)
