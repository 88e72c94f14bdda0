"""What VEX, an allow list and grace lift of what scans found, and what they do not."""

from __future__ import annotations

from typing import Any

import pytest
from batten_scans import AMD64, ARM64, DAY, INDEX, digest, evidence, scans, statement, vulnerability

from batten_webhooks.evidence.judge import Demands, judge
from batten_webhooks.evidence.model import ScanEvidence, Statement, Vex, Vulnerability
from batten_webhooks.evidence.scans import Found, Scans

NOW = 1_780_000_000.0
BOTH = (AMD64, ARM64)


def found(*names: Vulnerability, **said: Any) -> ScanEvidence:
    return evidence(*names, now=NOW, **said)


def with_vex(known: Scans, *statements: Statement, digests: frozenset[str] = frozenset()) -> Scans:
    vex = Found("attestation v", Vex(statements, digests))
    return Scans(known.digest, known.platforms, (*known.found, vex), looked=known.looked)


def bad(known: Scans, **demands: Any) -> list[str]:
    judged = judge(known, Demands(max_age=7 * DAY, **demands), NOW)
    assert not judged.missing
    return [each.vulnerability.id for each in judged.bad]


def on_both(*statements: Statement, digests: frozenset[str] = frozenset()) -> Scans:
    """Of an image of two platforms, in one of which something was found."""
    two = scans(found(vulnerability()), found(digests=ARM64.digests), platforms=BOTH)
    return with_vex(two, *statements, digests=digests)


@pytest.mark.parametrize("name", [ARM64.manifest, ARM64.configuration, digest("elsewhere")])
def test_vex_of_another_platform_lifts_nothing(name: str) -> None:
    said = frozenset((name,))
    assert bad(on_both(statement("not_affected", time=NOW), digests=said)) == ["CVE-2026-1"]
    assert bad(on_both(statement("not_affected", time=NOW, products=said))) == ["CVE-2026-1"]


@pytest.mark.parametrize("name", [INDEX, AMD64.manifest, AMD64.configuration])
def test_vex_of_the_index_or_of_the_platform_does(name: str) -> None:
    said = frozenset((name,))
    assert bad(on_both(statement("not_affected", time=NOW), digests=said)) == []
    assert bad(on_both(statement("not_affected", time=NOW, products=said))) == []


def test_what_came_with_the_scan_of_one_platform_is_of_that_one() -> None:
    """Though both scans name the index."""
    lifting = (statement("not_affected", time=NOW),)
    amd64, arm64 = AMD64.digests | {INDEX}, ARM64.digests | {INDEX}
    one = found(vulnerability(), digests=amd64)
    assert bad(scans(one, found(digests=arm64, statements=lifting), platforms=BOTH)) == [
        "CVE-2026-1"
    ]
    said = found(vulnerability(), digests=amd64, statements=lifting)
    assert bad(scans(said, found(digests=arm64), platforms=BOTH)) == []


def test_what_two_platforms_share_is_lifted_on_both() -> None:
    shared = found(vulnerability(), digests=frozenset((AMD64.manifest, ARM64.manifest)))
    known = scans(shared, platforms=BOTH)
    of_amd64 = statement("fixed", products=AMD64.digests)
    of_arm64 = statement("fixed", products=ARM64.digests)
    assert bad(with_vex(known, of_amd64)) == ["CVE-2026-1"]
    assert bad(with_vex(known, of_amd64, of_arm64)) == []


def test_the_newest_statement_decides_and_of_one_time_the_stricter() -> None:
    def after(*said: Statement) -> list[str]:
        return bad(with_vex(scans(found(vulnerability())), *said, digests=frozenset((INDEX,))))

    lifts = statement("not_affected", time=NOW - 2)
    assert after(lifts, statement("affected", time=NOW - 1)) == ["CVE-2026-1"]
    assert after(lifts, statement("affected", time=NOW - 3)) == []
    assert after(lifts, statement("under_investigation", time=NOW - 2)) == ["CVE-2026-1"]
    assert after(lifts, statement("affected", time=NOW - 1, package="zlib")) == []
    assert after(lifts, statement("affected", time=NOW - 1, installed="3.0.1")) == ["CVE-2026-1"]


def test_what_is_to_come_says_nothing_yet() -> None:
    ahead = statement("not_affected", time=NOW + DAY)
    retracted = statement("affected", time=NOW - DAY)
    known = with_vex(scans(found(vulnerability())), ahead, digests=frozenset((INDEX,)))
    assert bad(known) == ["CVE-2026-1"]
    assert bad(with_vex(known, retracted, digests=frozenset((INDEX,)))) == ["CVE-2026-1"]


def test_names_are_the_same_in_either_case() -> None:
    lower = scans(found(vulnerability("cve-2026-1")))
    assert bad(lower, allowed=(("CVE-2026-1", NOW + 1),)) == []
    assert bad(scans(found(vulnerability())), allowed=(("cve-2026-1", NOW + 1),)) == []
    said = statement("not_affected", "Cve-2026-1", time=NOW - 2)
    retracted = statement("affected", "CVE-2026-1", time=NOW - 1)
    bound = frozenset((INDEX,))
    assert bad(with_vex(lower, said, digests=bound)) == []
    assert bad(with_vex(lower, said, retracted, digests=bound)) == ["cve-2026-1"]


def test_what_is_allowed_ends_at_its_moment() -> None:
    known = scans(found(vulnerability()))
    assert bad(known, allowed=(("CVE-2026-1", NOW),)) == ["CVE-2026-1"]
    assert bad(known, allowed=(("CVE-2026-1", NOW + 1),)) == []


def test_grace_ends_and_nothing_that_is_to_come_has_any() -> None:
    """What claims to become known in a year would be passed over until then."""

    def of(published: float, grace: float = DAY) -> list[str]:
        return bad(scans(found(vulnerability(published=published))), grace=grace)

    assert of(NOW - DAY + 1) == of(NOW) == of(NOW + 60) == []
    assert of(NOW - DAY) == of(NOW + DAY) == of(NOW + 365 * DAY) == ["CVE-2026-1"]
    assert of(0.0) == of(NOW, grace=0.0) == of(NOW + 60, grace=0.0) == ["CVE-2026-1"]
