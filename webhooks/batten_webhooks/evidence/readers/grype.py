"""Grype's JSON: `grype IMAGE --output json`.

https://github.com/anchore/grype, grype/presenter/models: Document, Match, IgnoredMatch, source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import field

from batten_webhooks.evidence.model import (
    ScanEvidence,
    Statement,
    Status,
    Unreadable,
    Vulnerability,
)
from batten_webhooks.evidence.readers.common import (
    FIXES,
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
from batten_webhooks.evidence.readers.purl import package_url

FORMAT = "Grype JSON"
MOST_ALIASES = 20
# CSAF's words for what OpenVEX says in others.
_CSAF: dict[str, Status] = {
    "known_not_affected": "not_affected",
    "first_fixed": "fixed",
    "known_affected": "affected",
}


class FixedIn(Shape):
    versions: list[str] | None = None
    state: str = ""


class Named(Shape):
    id: str


class Detail(Named):
    severity: str = ""
    fix: FixedIn | None = None


class Artifact(Shape):
    name: str = ""
    version: str = ""
    type: str = ""
    purl: str = ""


class Match(Shape, rename="camel"):
    vulnerability: Detail
    artifact: Artifact
    related_vulnerabilities: list[Named] | None = None


class RulePackage(Shape):
    pass


class Rule(Shape, rename="kebab"):
    vulnerability: str = ""
    package: RulePackage | None = None
    fix_state: str = ""
    vex_status: str = ""
    vex_justification: str = ""


class Ignored(Match):
    applied_ignore_rules: list[Rule] | None = field(name="appliedIgnoreRules", default=None)


class Target(Shape, rename="camel"):
    image_id: str = field(name="imageID", default="")
    manifest_digest: str = ""
    repo_digests: list[str] | None = None


class Source(Shape):
    """The target of what is no image is a path."""

    type: str = ""
    target: Target | str | None = None


class Alert(Shape):
    type: str = ""


class Alerts(Shape):
    alerts: list[Alert] | None = None


class DatabaseStatus(Shape):
    built: str = ""


class Database(Shape):
    """Grype 0.88 put into `status` what stood beside it before."""

    built: str = ""
    status: DatabaseStatus | None = None


class Descriptor(Shape):
    version: str = ""
    timestamp: str = ""
    db: Database | None = None


class Report(Shape, rename="camel"):
    matches: list[Match]
    descriptor: Descriptor
    source: Source | None = None
    ignored_matches: list[Ignored] | None = None
    alerts_by_package: list[Alerts] | None = None


def read(data: Encoded) -> ScanEvidence:
    report = decode(data, Report, FORMAT)
    source, database = report.source or Source(), report.descriptor.db or Database()
    if not isinstance(source.target, Target):
        what = text(source.type, 30) or "source without a name"
        raise Unreadable(f"is Grype's scan of a {what}, not of an image: use grype IMAGE")
    scanned = moment(report.descriptor.timestamp)
    ignored = report.ignored_matches or ()
    unfixed = (match for match in ignored if _is_only_unfixed(match))
    reported = (_found(match) for match in (*report.matches, *unfixed))
    found, statements = with_set_aside(reported, _set_aside(ignored, scanned))
    target = source.target
    built = database.status.built if database.status else database.built
    return ScanEvidence(
        digests=digests([target.image_id, target.manifest_digest, *(target.repo_digests or ())]),
        scanner="Grype",
        version=text(report.descriptor.version),
        scanned=scanned,
        database=moment(built),
        vulnerabilities=found,
        statements=statements,
        end_of_life=any(
            alert.type == "distro-eol"
            for alerts in report.alerts_by_package or ()
            for alert in alerts.alerts or ()
        ),
    )


def _is_only_unfixed(match: Ignored) -> bool:
    """Left out by --only-fixed and its like, of all packages. Policies judge by the fix."""
    rules = match.applied_ignore_rules or ()
    return all(rule.fix_state and not rule.vulnerability and not rule.package for rule in rules)


def _set_aside(
    ignored: Iterable[Ignored], scanned: float
) -> Iterator[tuple[Vulnerability, Statement]]:
    """Those by VEX. What a configuration of Grype's names is not reported, as Trivy does."""
    for match in ignored:
        for rule in match.applied_ignore_rules or ():
            status = _CSAF.get(rule.vex_status, rule.vex_status)
            if status in STATUSES:
                found = _found(match)
                yield found, stated(found, status, scanned, rule.vex_justification)
                break


def _found(match: Match) -> Vulnerability:
    detail, artifact = match.vulnerability, match.artifact
    fix = detail.fix or FixedIn()
    name = artifact.name
    # Grype leaves the group out, which others have in the name.
    if artifact.purl.startswith("pkg:maven/"):
        url = package_url(artifact.purl)
        name = url.package if url else name
    known = identifier(detail.id) or UNNAMED
    return vulnerability(
        id=known,
        severity=severity(detail.severity),
        package=text(name),
        installed=text(artifact.version),
        fixed_in=text(", ".join((fix.versions or ())[:MOST_ALIASES])),
        fix=fix.state if fix.state in FIXES else "unknown",
        aliases=_aliases(known, match.related_vulnerabilities or ()),
    )


def _aliases(known: str, related: Sequence[Named]) -> tuple[str, ...]:
    """Its other names. An advisory of several vulnerabilities, as Oracle has, is none of them: what
    is said of one of them is not said of all."""
    names = dict.fromkeys(identifier(one.id) for one in related[:MOST_ALIASES])
    if len({name for name in (known, *names) if name.startswith("CVE-")}) > 1:
        return ()
    return tuple(name for name in names if name not in {"", known})


READER = Reader(FORMAT, frozenset(("matches", "descriptor")), read)
