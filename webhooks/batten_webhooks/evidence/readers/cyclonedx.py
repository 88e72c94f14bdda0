"""CycloneDX in JSON, where it has vulnerabilities: a scan, or VEX.

https://cyclonedx.org/docs/1.6/json/. A scan lists components, and vulnerabilities that nobody has
analysed yet. One that lists none is an SBOM: scanners write an empty list also where they looked
for none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import field

from batten_webhooks.evidence.model import (
    Document,
    NotEvidence,
    ScanEvidence,
    Statement,
    Status,
    Vex,
    Vulnerability,
)
from batten_webhooks.evidence.readers.common import (
    LONGEST_SENTENCE,
    UNNAMED,
    Encoded,
    Reader,
    Shape,
    decode,
    digests,
    few,
    identifier,
    moment,
    severity,
    stated,
    text,
    vulnerability,
    with_set_aside,
    worst,
)
from batten_webhooks.evidence.readers.purl import WHOLE, Target, package_url, target

FORMAT = "CycloneDX"
KIND = "https://cyclonedx.org/bom"
_STATUS: dict[str, Status] = {
    "resolved": "fixed",
    "resolved_with_pedigree": "fixed",
    "not_affected": "not_affected",
    "false_positive": "not_affected",
    "exploitable": "affected",
    "in_triage": "under_investigation",
}
# Trivy's properties of the image that it scanned.
_DIGESTS = frozenset(("aquasecurity:trivy:ImageID", "aquasecurity:trivy:RepoDigest"))
_UPGRADE = re.compile(r"Upgrade .{1,200} to version (.{1,200})")


class Property(Shape):
    name: str = ""
    value: str | None = None


class Component(Shape):
    ref: str = field(name="bom-ref", default="")
    type: str = ""
    group: str = ""
    name: str = ""
    version: str = ""
    purl: str = ""
    properties: list[Property] | None = None
    components: list[Component] | None = None


# What a reference to the image itself leads to: it is no package of itself.
_IMAGE = Component()
Places = dict[str, Component]


class Tool(Shape):
    name: str = ""
    version: str = ""


class Tools(Shape):
    components: list[Tool] | None = None


class Metadata(Shape):
    """Until CycloneDX 1.4 `tools` was a list."""

    timestamp: str = ""
    component: Component | None = None
    tools: Tools | list[Tool] | None = None


class Rating(Shape):
    severity: str = ""


class Version(Shape):
    version: str = ""
    range: str = ""
    status: str = ""


class Affected(Shape):
    ref: str = ""
    versions: list[Version] | None = None


class Analysis(Shape, rename="camel"):
    state: str = ""
    justification: str = ""
    detail: str = ""
    first_issued: str = ""
    last_updated: str = ""


class Finding(Shape):
    id: str = ""
    ratings: list[Rating] | None = None
    affects: list[Affected] | None = None
    recommendation: str | None = None
    published: str | None = None
    analysis: Analysis | None = None


class Bom(Shape):
    metadata: Metadata = field(default_factory=Metadata)
    components: list[Component] | None = None
    vulnerabilities: list[Finding] | None = None


def read(data: Encoded) -> Document:
    bom = decode(data, Bom, FORMAT)
    if not bom.vulnerabilities:
        raise NotEvidence(
            "lists no vulnerabilities, as an SBOM does, and does not tell whether somebody looked "
            "for any: give the scanner's own JSON"
        )
    scan = bom.components and not all(_status(finding) for finding in bom.vulnerabilities)
    return _scan(bom) if scan else _vex(bom)


def _scan(bom: Bom) -> ScanEvidence:
    scanned, places = moment(bom.metadata.timestamp), _places(bom)
    reported, aside = [], []
    for finding, affected in few(_pairs(bom)):
        found = _found(finding, affected, places)
        if status := _status(finding):
            why, time = _why(finding, scanned)
            aside.append((found, stated(found, status, time, why)))
        else:
            reported.append(found)
    vulnerabilities, statements = with_set_aside(reported, aside)
    tools = bom.metadata.tools
    scanner = next(iter((tools.components if isinstance(tools, Tools) else tools) or ()), Tool())
    return ScanEvidence(
        digests=_digests(bom.metadata.component),
        scanner=text(scanner.name),
        version=text(scanner.version),
        scanned=scanned,
        vulnerabilities=vulnerabilities,
        statements=statements,
    )


def _vex(bom: Bom) -> Vex:
    made, places = moment(bom.metadata.timestamp), _places(bom)
    statements = []
    for finding, affected in few(_pairs(bom)):
        if (status := _status(finding)) and finding.id:
            products, package, installed = _target(affected.ref, places)
            why, time = _why(finding, made)
            statements.append(
                Statement(
                    names=frozenset((identifier(finding.id),)),
                    status=status,
                    time=time,
                    products=products,
                    package=package,
                    installed=installed,
                    justification=text(why, LONGEST_SENTENCE),
                )
            )
    return Vex(tuple(statements), _digests(bom.metadata.component))


def _pairs(bom: Bom) -> Iterator[tuple[Finding, Affected]]:
    for finding in bom.vulnerabilities or ():
        for affected in finding.affects or (Affected(),):
            yield finding, affected


def _found(finding: Finding, affected: Affected, places: Places) -> Vulnerability:
    _, package, installed = _target(affected.ref, places)
    fixed_in = _fixed_in(finding, affected)
    return vulnerability(
        id=identifier(finding.id) or UNNAMED,
        severity=worst(severity(rating.severity) for rating in finding.ratings or ()),
        package=package,
        installed=installed,
        fixed_in=text(fixed_in),
        fix="fixed" if fixed_in else "unknown",
        published=moment(finding.published),
    )


def _fixed_in(finding: Finding, affected: Affected) -> str:
    """Grype lists the versions that are not affected, Trivy writes a sentence."""
    upgrade = _UPGRADE.match(finding.recommendation or "")
    good = (one for one in affected.versions or () if one.status == "unaffected")
    named = (one.version or one.range.rpartition(">=")[2] for one in good)
    return upgrade[1] if upgrade else next(named, "")


def _status(finding: Finding) -> Status | None:
    return _STATUS.get(finding.analysis.state) if finding.analysis else None


def _why(finding: Finding, otherwise: float) -> tuple[str, float]:
    """The justification of an analysis, and its time."""
    analysis = finding.analysis or Analysis()
    time = moment(analysis.last_updated) or moment(analysis.first_issued) or otherwise
    return analysis.justification or analysis.detail, time


def _target(ref: str, places: Places) -> Target:
    """What is affected: a component of this document, or by a BOM-Link one of another."""
    component = places.get(ref)
    if component is None:
        return target(ref.partition("#")[2] if ref.startswith("urn:cdx:") else ref)
    if component is _IMAGE:
        return WHOLE
    if images := _digests(component):
        return Target(images, "", "")
    url = package_url(component.purl)
    name = f"{component.group}/{component.name}" if component.group else component.name
    return Target(
        frozenset(),
        text(url.package if url and url.package else name) or UNNAMED,
        text(component.version or (url.version if url else "")),
    )


def _places(bom: Bom) -> Places:
    """The components by their references. Without a reference, what the document describes is
    meant, and so the image where it describes one."""
    result = {}
    left = list(bom.components or ())
    while left:
        component = left.pop()
        left.extend(component.components or ())
        result[component.ref] = component
    root = bom.metadata.component
    if root:
        result[root.ref] = _IMAGE if root.type == "container" else root
    return result | {"": _IMAGE}


def _digests(component: Component | None) -> frozenset[str]:
    """An image's. Grype and Syft give it as the version."""
    if component is None or component.type != "container":
        return frozenset()
    url = package_url(component.purl)
    named = (one.value for one in component.properties or () if one.name in _DIGESTS)
    return digests([component.version, url.version if url and not url.package else None, *named])


READER = Reader(FORMAT, frozenset(("bomFormat",)), read)
