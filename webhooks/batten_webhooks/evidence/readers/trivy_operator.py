"""Trivy Operator's VulnerabilityReport and ClusterVulnerabilityReport.

https://aquasecurity.github.io/trivy-operator/latest/docs/crds/vulnerability-report/. The digest
has been an index's, a configuration's or missing, by the operator's version and settings.
"""

from __future__ import annotations

from msgspec import field

from batten_webhooks.evidence.model import ScanEvidence, Unreadable
from batten_webhooks.evidence.readers.common import (
    UNNAMED,
    Encoded,
    Reader,
    Shape,
    decode,
    digests,
    identifier,
    merged,
    moment,
    severity,
    text,
    vulnerability,
)

GROUP = "aquasecurity.github.io"
KINDS = frozenset(("VulnerabilityReport", "ClusterVulnerabilityReport"))


class Finding(Shape, rename="camel"):
    id: str = field(name="vulnerabilityID", default="")
    resource: str = ""
    installed_version: str = ""
    fixed_version: str = ""
    severity: str = ""
    published_date: str | None = None


class Artifact(Shape):
    digest: str | None = None


class OperatingSystem(Shape):
    eosl: bool = False


class Scanner(Shape):
    name: str = ""
    version: str = ""


class Content(Shape, rename="camel"):
    vulnerabilities: list[Finding]
    artifact: Artifact | None = None
    os: OperatingSystem | None = None
    scanner: Scanner | None = None
    update_timestamp: str | None = None


class Head(Shape, rename="camel"):
    api_version: str
    kind: str


class Report(Shape):
    report: Content


def read(data: Encoded) -> ScanEvidence:
    head = decode(data, Head, "object of the API")
    if head.api_version.partition("/")[0] != GROUP or head.kind not in KINDS:
        raise Unreadable(
            f"is of the kind {text(head.kind)}, not a VulnerabilityReport of Trivy Operator"
        )
    content = decode(data, Report, head.kind).report
    scanner = content.scanner or Scanner()
    return ScanEvidence(
        digests=digests([content.artifact.digest] if content.artifact else ()),
        scanner=text(scanner.name) or "Trivy",
        version=text(scanner.version),
        scanned=moment(content.update_timestamp),
        vulnerabilities=merged(
            vulnerability(
                id=identifier(one.id) or UNNAMED,
                severity=severity(one.severity),
                package=text(one.resource),
                installed=text(one.installed_version),
                fixed_in=text(one.fixed_version),
                fix="fixed" if one.fixed_version else "not-fixed",
                published=moment(one.published_date),
            )
            for one in content.vulnerabilities
        ),
        end_of_life=bool(content.os and content.os.eosl),
    )


READER = Reader("VulnerabilityReport", frozenset(("apiVersion", "kind", "report")), read)
