"""ImageScan: what a scanner found in an image, or that one is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from batten_webhooks.evidence.model import Fix, ScanEvidence, Severity, Statement, Status
from batten_webhooks.evidence.model import Vulnerability as Found
from batten_webhooks.evidence.readers.common import vulnerability
from batten_webhooks.reference import InvalidReference, parse_reference
from batten_webhooks.resources.exception import Time
from batten_webhooks.resources.invalid import validated
from batten_webhooks.resources.model import API_VERSION, DnsLabel, Metadata, Model

# An object of etcd's is 1.5 MB at most.
MOST_VULNERABILITIES, MOST_STATEMENTS = 5_000, 1_000
MOST_SECRETS = 32


def _printable(text: str) -> str:
    """Messages, warnings and terminals show it."""
    if not text.isprintable():
        raise ValueError("must be printable, on one line")
    return text


Text = Annotated[str, AfterValidator(_printable), Field(max_length=500)]


def _reference(text: str) -> str:
    try:
        parse_reference(text)
    except InvalidReference as error:
        raise ValueError(f"{error}") from None
    return text


_DIGEST = r"^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$"


def _digest(text: str) -> str:
    if not re.fullmatch(_DIGEST.strip("^$"), text):
        raise ValueError("must be a digest: sha256: and 64 digits, or sha512: and 128")
    return text


Digest = Annotated[
    str,
    AfterValidator(_digest),
    Field(max_length=135, json_schema_extra={"pattern": _DIGEST}),
]
Reference = Annotated[str, AfterValidator(_reference), Field(max_length=500)]


class Vulnerability(Model):
    """One that was found in one package."""

    id: Text = Field(description="Such as CVE-2026-1234.")
    aliases: list[Text] = Field(default=[], max_length=20, description="Its other names.")
    severity: Severity = Field(description="As the scanner rates it.")
    package: Text = Field(default="", description="Its name.")
    installed: Text = Field(default="", description="Its version.")
    fixed_in: Text = Field(default="", description="The versions without it.")
    fix: Fix = Field(default="unknown", description="Whether there is one.")
    published: Time | None = Field(default=None, description="When it became known.")


class VexStatement(Model):
    """What somebody who knows says of vulnerabilities (https://github.com/openvex/spec)."""

    vulnerabilities: list[Text] = Field(
        min_length=1, max_length=50, description="One, by all of its names."
    )
    status: Status = Field(description="What is true of it.")
    package: Text = Field(default="", description="Of this package alone. Left out: of all.")
    installed: Text = Field(default="", description="Of this version of it alone.")
    justification: Text = Field(default="", description="Why it is not affected.")
    time: Time | None = Field(default=None, description="When it was said: the newest counts.")


class Scanner(Model):
    """What scanned it."""

    name: Text = Field(description="Such as trivy.")
    version: Text = Field(default="", description="Its version.")
    database_updated_at: Time | None = Field(
        default=None, description="When its knowledge of vulnerabilities was made."
    )


class Request(Model):
    """A scan that the webhooks ask the controller for."""

    template: str = Field(
        max_length=253, description="The PodTemplate, in Batten's Namespace, to scan it by."
    )
    namespace: DnsLabel = Field(description="Of the Pod, whose pull secrets are used.")
    pull_secrets: list[Text] = Field(
        default=[], max_length=MOST_SECRETS, description="Their names."
    )


class ImageScanSpec(Model):
    """What was scanned, and what was found in it."""

    image: Reference = Field(description="A reference of the image, for people to read.")
    digests: list[Digest] = Field(
        min_length=1,
        max_length=16,
        description="What the scan is of: digests of a platform's manifest, of its configuration,"
        " and of the index that it is in. What names the index alone counts only where nodes have"
        " one platform.",
    )
    platform: Text = Field(default="", description="Such as linux/amd64.")
    scanner: Scanner | None = Field(default=None, description="What scanned it.")
    scanned_at: Time | None = Field(
        default=None, description="When. Left out: it was not scanned yet."
    )
    end_of_life: bool = Field(
        default=False, description="Whether its distribution gets no more fixes."
    )
    vulnerabilities: list[Vulnerability] = Field(
        default=[], max_length=MOST_VULNERABILITIES, description="What was found."
    )
    statements: list[VexStatement] = Field(
        default=[], max_length=MOST_STATEMENTS, description="VEX that came with it."
    )
    request: Request | None = Field(
        default=None, description="Who wants it scanned, and how; written by Batten."
    )

    @model_validator(mode="after")
    def _scanned_by_something(self) -> ImageScanSpec:
        if self.scanned_at is not None and self.scanner is None:
            raise ValueError("scanner is missing: say what scanned it")
        if self.scanned_at is None and self.request is None:
            raise ValueError("scannedAt is missing: say when it was scanned")
        return self


class ImageScanStatus(Model):
    """How far a scan on demand is; written by the controller."""

    phase: Literal["Pending", "Running", "Complete", "Failed"] = Field(
        default="Pending", description="How far it is."
    )
    message: str = Field(default="", description="Why it failed, in words.")
    failures: int = Field(default=0, ge=0, description="How often it failed in a row.")
    last_transition_time: Time | None = Field(
        default=None, description="When `phase` last changed."
    )


class ImageScan(Model):
    """What a scanner found in an image. Written by CI, by `batten evidence`, or by Batten's own
    scans on demand; whoever may write one is believed, unless a policy names the users."""

    api_version: Literal["batten.dev/v1alpha1"]
    kind: Literal["ImageScan"]
    metadata: Metadata
    spec: ImageScanSpec = Field(description="What was scanned, and what was found in it.")
    status: Any = None


@dataclass(frozen=True, slots=True)
class ClusterScan:
    """An ImageScan as it is used; without `evidence` it was not scanned yet."""

    name: str
    image: str
    platform: str
    digests: frozenset[str]
    evidence: ScanEvidence | None
    request: Request | None


def read_image_scan(value: Any) -> ClusterScan:
    """From an object of the API or of a file. Raises Invalid."""
    read = validated(ImageScan, value)
    spec = read.spec
    digests = frozenset(spec.digests)
    return ClusterScan(
        read.metadata.name,
        spec.image,
        spec.platform,
        digests,
        _evidence(spec, digests),
        spec.request,
    )


def _evidence(spec: ImageScanSpec, digests: frozenset[str]) -> ScanEvidence | None:
    if spec.scanned_at is None or spec.scanner is None:
        return None
    return ScanEvidence(
        digests=digests,
        scanner=spec.scanner.name,
        version=spec.scanner.version,
        scanned=_seconds(spec.scanned_at),
        database=_seconds(spec.scanner.database_updated_at),
        vulnerabilities=tuple(
            vulnerability(
                each.id,
                each.severity,
                each.package,
                each.installed,
                each.fixed_in,
                each.fix,
                _seconds(each.published),
                tuple(each.aliases),
            )
            for each in spec.vulnerabilities
        ),
        statements=tuple(
            Statement(
                frozenset(each.vulnerabilities),
                each.status,
                _seconds(each.time),
                package=each.package,
                installed=each.installed,
                justification=each.justification,
            )
            for each in spec.statements
        ),
        end_of_life=spec.end_of_life,
    )


def image_scan(
    name: str, image: str, evidence: ScanEvidence, platform: str = "", digests: Iterable[str] = ()
) -> dict[str, Any]:
    """The object that says what the evidence does, of these digests besides its own."""
    spec: dict[str, Any] = {
        "image": image,
        "digests": sorted(evidence.digests.union(digests)),
        "platform": platform,
        "scanner": _said(
            name=evidence.scanner,
            version=evidence.version,
            databaseUpdatedAt=_time(evidence.database),
        ),
        "scannedAt": _time(evidence.scanned),
        "endOfLife": evidence.end_of_life,
        "vulnerabilities": [_vulnerability(each) for each in evidence.vulnerabilities],
        "statements": [_statement(each) for each in evidence.statements],
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "ImageScan",
        "metadata": {"name": name},
        "spec": _said(**spec),
    }


def _vulnerability(found: Found) -> dict[str, Any]:
    return _said(
        id=found.id,
        aliases=list(found.aliases[:20]),
        severity=found.severity,
        package=found.package,
        installed=found.installed,
        fixedIn=found.fixed_in,
        fix=found.fix,
        published=_time(found.published),
    )


def _statement(said: Statement) -> dict[str, Any]:
    return _said(
        vulnerabilities=sorted(said.names),
        status=said.status,
        package=said.package,
        installed=said.installed,
        justification=said.justification,
        time=_time(said.time),
    )


def _said(**values: Any) -> dict[str, Any]:
    """Without what says nothing."""
    return {key: value for key, value in values.items() if value not in ("", [], False)}


def _seconds(text: str | None) -> float:
    return datetime.fromisoformat(text.upper()).timestamp() if text else 0.0


def _time(seconds: float) -> str:
    if not seconds:
        return ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
