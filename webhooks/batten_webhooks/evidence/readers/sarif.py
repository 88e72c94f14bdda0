"""SARIF, where it names the image by digest: Trivy's does, Grype's has only the digests of layers.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html. It tells neither what was looked
for nor, in most cases, when; so a run that lists no vulnerability proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import field

from batten_webhooks.evidence.model import ScanEvidence, Severity, Unreadable, Vulnerability
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
    severity_of_score,
    text,
    vulnerability,
)

FORMAT = "SARIF"
LONGEST_MESSAGE = 4_000
# Trivy's words for what else it finds.
_OTHER = frozenset(("misconfiguration", "secret", "license"))
_LINE = re.compile(r"^(Package|Installed Version|Fixed Version): (.+)$", re.MULTILINE)
_LEVELS: dict[str, Severity] = {"error": "HIGH", "warning": "MEDIUM", "note": "LOW"}


class RuleProperties(Shape):
    tags: list[str] | None = None
    score: str | float | None = field(name="security-severity", default=None)


class Rule(Shape):
    id: str = ""
    properties: RuleProperties | None = None


class Driver(Shape, rename="camel"):
    name: str = ""
    version: str = ""
    semantic_version: str = ""
    rules: list[Rule] | None = None


class Tool(Shape):
    driver: Driver


class Message(Shape):
    text: str = ""


class Result(Shape, rename="camel"):
    rule_id: str = ""
    level: str = "warning"
    message: Message | None = None


class Properties(Shape):
    image_id: str = field(name="imageID", default="")
    repo_digests: list[str] | None = field(name="repoDigests", default=None)


class Invocation(Shape, rename="camel"):
    end_time_utc: str = ""


class Run(Shape):
    tool: Tool
    results: list[Result] | None = None
    properties: Properties | None = None
    invocations: list[Invocation] | None = None

    @property
    def digests(self) -> frozenset[str]:
        named = self.properties or Properties()
        return digests([named.image_id, *(named.repo_digests or ())])


class Log(Shape):
    runs: list[Run]


def read(data: Encoded) -> ScanEvidence:
    runs = [run for run in decode(data, Log, FORMAT).runs if run.digests]
    if len(runs) != 1:
        raise Unreadable(
            "is SARIF about several images: give one for each"
            if runs
            else "is SARIF that names no image by its digest: give the scanner's own JSON"
        )
    run = runs[0]
    driver = run.tool.driver
    found = merged(_found(run))
    if not found:
        raise Unreadable(
            "is SARIF that lists no vulnerability, and does not tell whether the scanner looked "
            "for any: give the scanner's own JSON"
        )
    ends = [moment(invocation.end_time_utc) for invocation in run.invocations or ()]
    return ScanEvidence(
        digests=run.digests,
        scanner=text(driver.name),
        version=text(driver.version or driver.semantic_version),
        scanned=min(ends, default=0.0),
        vulnerabilities=found,
    )


def _found(run: Run) -> Iterator[Vulnerability]:
    rules = {rule.id: rule.properties for rule in run.tool.driver.rules or ()}
    for result in run.results or ():
        properties = rules.get(result.rule_id) or RuleProperties()
        tags = properties.tags or ()
        if _OTHER.isdisjoint(tags):
            message = result.message.text[:LONGEST_MESSAGE] if result.message else ""
            lines = dict(_LINE.findall(message))
            fixed_in = lines.get("Fixed Version", "")
            yield vulnerability(
                id=identifier(result.rule_id) or UNNAMED,
                severity=_severity(tags, properties.score, result.level),
                package=text(lines.get("Package")),
                installed=text(lines.get("Installed Version")),
                fixed_in=text(fixed_in),
                fix="fixed" if fixed_in else "unknown",
            )


def _severity(tags: list[str] | tuple[()], score: str | float | None, level: str) -> Severity:
    words = [word for word in map(severity, tags) if word != "UNKNOWN"]
    if words:
        return words[0]
    try:
        return severity_of_score(float(score or ""))
    except ValueError:
        return _LEVELS.get(level, "UNKNOWN")


READER = Reader(FORMAT, frozenset(("runs",)), read)
