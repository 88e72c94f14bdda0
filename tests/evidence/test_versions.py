"""A statement about one version of a package lifts nothing of another one."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from batten_webhooks.evidence.judge import Demands, judge
from batten_webhooks.evidence.model import ScanEvidence, Statement, Vulnerability
from batten_webhooks.evidence.scans import Found, Platform, Scans
from batten_webhooks.resources import Invalid, read_image_scan
from batten_webhooks.resources.image_scan import image_scan

DIGEST, NOW = f"sha256:{'a' * 64}", 1_800_000_000.0
ID = "CVE-2026-1"
STATEMENT = Statement(frozenset((ID,)), "not_affected", NOW, package="left-pad", installed="1.0")
EVIDENCE = ScanEvidence(
    frozenset((DIGEST,)),
    "Trivy",
    scanned=NOW,
    vulnerabilities=tuple(
        Vulnerability(ID, "CRITICAL", "left-pad", version) for version in ("1.0", "1.1")
    ),
    statements=(STATEMENT,),
)


def decide(evidence: ScanEvidence) -> list[str]:
    scans = Scans(DIGEST, (Platform("linux/amd64", DIGEST),), (Found("a scan", evidence),))
    judged = judge(scans, Demands(max_age=1.0), NOW)
    return [each.vulnerability.installed for each in judged.bad]


def test_one_version_is_lifted() -> None:
    assert decide(EVIDENCE) == ["1.1"]
    everything = replace(EVIDENCE, statements=(replace(STATEMENT, installed=""),))
    assert decide(everything) == []


def test_an_image_scan_says_the_same() -> None:
    read = read_image_scan(image_scan("a", "app", EVIDENCE)).evidence
    assert read is not None
    assert read.statements == EVIDENCE.statements
    assert decide(read) == ["1.1"]


def test_an_image_scan_forges_no_lines_of_messages() -> None:
    """Whoever may write one is shown on other people's terminals."""
    value = image_scan("a", "app", EVIDENCE)
    for text in ("left-pad\nmay run", "left-pad\x1b[2J"):
        value["spec"]["vulnerabilities"][0]["package"] = text
        with pytest.raises(Invalid, match="must be printable, on one line"):
            read_image_scan(value)
