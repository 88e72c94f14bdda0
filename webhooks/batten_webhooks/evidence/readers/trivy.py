"""Trivy's JSON: `trivy image --format json`.

https://github.com/aquasecurity/trivy, pkg/types: Report, Result, DetectedVulnerability,
ModifiedFinding. `RepoDigests` has what was asked for, mostly an index, `ImageID` is the digest of
the configuration of the one platform that was scanned. Trivy does not write down what it was told
to leave out: --severity, --ignore-unfixed, .trivyignore and, where it lists packages, --scanners.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import field

from batten_webhooks.evidence.model import Fix, ScanEvidence, Statement, Unreadable, Vulnerability
from batten_webhooks.evidence.readers.common import (
    STATUSES,
    UNNAMED,
    Encoded,
    Reader,
    Shape,
    decode,
    digests,
    identifier,
    moment,
    severity,
    stated,
    text,
    vulnerability,
    with_set_aside,
)

FORMAT = "Trivy JSON"
# What a scan of vulnerabilities looks into, also where it finds none.
_PACKAGES = frozenset(("os-pkgs", "lang-pkgs"))
# An SBOM may be an image's, as its digests tell.
_IMAGES = frozenset(("container_image", "cyclonedx", "spdx", ""))
_FIX: dict[str, Fix] = {
    "fixed": "fixed",
    "will_not_fix": "wont-fix",
    "end_of_life": "wont-fix",
    "affected": "not-fixed",
    "fix_deferred": "not-fixed",
    "": "not-fixed",
}


class Finding(Shape, rename="pascal"):
    """A modified one may be a secret's, which has no such id."""

    id: str = field(name="VulnerabilityID", default="")
    pkg_name: str = ""
    installed_version: str = ""
    fixed_version: str = ""
    status: str = ""
    severity: str = ""
    published_date: str | None = None


class Modified(Shape, rename="pascal"):
    type: str = ""
    status: str = ""
    statement: str = ""
    finding: Finding | None = None


class Result(Shape, rename="pascal"):
    class_: str = field(name="Class", default="")
    vulnerabilities: list[Finding] | None = None
    modified: list[Modified] | None = field(name="ExperimentalModifiedFindings", default=None)


class OperatingSystem(Shape):
    end_of_life: bool = field(name="EOSL", default=False)


class Metadata(Shape, rename="pascal"):
    image_id: str = field(name="ImageID", default="")
    repo_digests: list[str] | None = None
    os: OperatingSystem | None = field(name="OS", default=None)


class Database(Shape, rename="pascal"):
    updated_at: str = ""


class Server(Shape):
    database: Database | None = field(name="VulnerabilityDB", default=None)


class Tool(Shape, rename="pascal"):
    version: str = ""
    server: Server | None = None


class Report(Shape, rename="pascal"):
    artifact_type: str = ""
    created_at: str = ""
    tool: Tool | None = field(name="Trivy", default=None)
    metadata: Metadata | None = None
    results: list[Result] | None = None


def read(data: Encoded) -> ScanEvidence:
    report = decode(data, Report, FORMAT)
    results = report.results or []
    if report.artifact_type not in _IMAGES:
        what = text(report.artifact_type, 30)
        raise Unreadable(f"is Trivy's scan of a {what}, not of an image: use trivy image")
    if not any(result.class_ in _PACKAGES or result.vulnerabilities for result in results):
        raise Unreadable(
            "is a Trivy scan that looked into no package: the image has none that Trivy knows, or "
            "it was run without --scanners vuln"
        )
    metadata, tool = report.metadata or Metadata(), report.tool or Tool()
    server = tool.server.database if tool.server else None
    scanned = moment(report.created_at)
    found, statements = with_set_aside(_reported(results), _set_aside(results, scanned))
    return ScanEvidence(
        digests=digests([metadata.image_id, *(metadata.repo_digests or ())]),
        scanner="Trivy",
        version=text(tool.version),
        scanned=scanned,
        database=moment(server.updated_at) if server else 0.0,
        vulnerabilities=found,
        statements=statements,
        end_of_life=bool(metadata.os and metadata.os.end_of_life),
    )


def _reported(results: list[Result]) -> Iterator[Vulnerability]:
    return (_found(one) for result in results for one in result.vulnerabilities or ())


def _set_aside(results: list[Result], scanned: float) -> Iterator[tuple[Vulnerability, Statement]]:
    """Those by VEX. What .trivyignore lists is not reported, as without --show-suppressed."""
    for result in results:
        for one in result.modified or ():
            if one.status in STATUSES and one.finding and one.finding.id:
                found = _found(one.finding)
                yield found, stated(found, one.status, scanned, one.statement)


def _found(one: Finding) -> Vulnerability:
    return vulnerability(
        id=identifier(one.id) or UNNAMED,
        severity=severity(one.severity),
        package=text(one.pkg_name),
        installed=text(one.installed_version),
        fixed_in=text(one.fixed_version),
        fix="fixed" if one.fixed_version else _FIX.get(one.status, "unknown"),
        published=moment(one.published_date),
    )


READER = Reader(FORMAT, frozenset(("SchemaVersion",)), read)
