"""Whether what is known of an image's scans lets it run. Pure: no I/O, and time is given.

Every platform that nodes have needs a scan that counts; of all scans that count the worst finding
decides, unless VEX or a policy lifts it. One source never hides another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec import Struct

from batten_webhooks.evidence.model import ScanEvidence, Severity, Statement, Vulnerability
from batten_webhooks.evidence.scans import Platform, Scans

# Clocks differ; more than so many seconds ahead is of no true scan.
SKEW_SECONDS = 300.0
# Where nobody says whether there is a fix, there may be one.
UNFIXED = frozenset(("not-fixed", "wont-fix"))
LIFTING = frozenset(("not_affected", "fixed"))
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class Demands:
    """What is asked of scans. Durations are in seconds, 0 where nothing is asked.

    `database` is how old a scanner's knowledge may have been when it scanned. A vulnerability that
    became known less than `grace` ago is passed over. `allowed` are vulnerabilities with when that
    ends, in Unix seconds.
    """

    max_age: float
    database: float = 0.0
    fail_on: frozenset[Severity] = frozenset(("CRITICAL",))
    ignore_unfixed: bool = False
    vex: bool = True
    grace: float = 0.0
    end_of_life: bool = False
    allowed: tuple[tuple[str, float], ...] = ()


class Bad(Struct, frozen=True):
    """A vulnerability that decides, and who tells of it."""

    vulnerability: Vulnerability
    origin: str


class Judgement(Struct, frozen=True):
    """`missing` are sentences on why there is no scan that counts of the platforms `left`; `bad` is
    what was found, the worst first; `ended` are the origins that say that the distribution gets no
    more fixes."""

    missing: tuple[str, ...] = ()
    left: tuple[Platform, ...] = ()
    bad: tuple[Bad, ...] = ()
    ended: tuple[str, ...] = ()


class _Counting(Struct, frozen=True):
    """A scan that counts, of the platforms `covered`."""

    origin: str
    evidence: ScanEvidence
    covered: Sequence[Platform]


def judge(scans: Scans, demands: Demands, now: float) -> Judgement:
    """`now` is in Unix seconds."""
    if scans.error:
        return Judgement((scans.error,))
    counting: list[_Counting] = []
    reasons = [f"{each.origin} {each.why}" for each in scans.rejected]
    left = list(scans.platforms)
    for each in scans.found:
        evidence = each.document
        if not isinstance(evidence, ScanEvidence):
            continue
        wrong = flaw(evidence, scans, demands, now)
        if wrong:
            reasons.append(f"{each.origin} {wrong}")
            continue
        covered = covers(evidence, scans)
        counting.append(_Counting(each.origin, evidence, covered))
        left = [platform for platform in left if platform not in covered]
    if left or not counting:
        return Judgement(tuple(_missing(reasons, left, some=bool(counting))), tuple(left))
    said = _said(scans, counting, now) if demands.vex else {}
    allowed = {name.casefold() for name, end in demands.allowed if end > now}
    bad = [
        Bad(vulnerability, each.origin)
        for each in counting
        for vulnerability in each.evidence.vulnerabilities
        if _decides(vulnerability, demands, allowed, now)
        and not _lifted(vulnerability, each.covered, said)
    ]
    ended = [each.origin for each in counting if each.evidence.end_of_life]
    return Judgement((), (), _ordered(bad), tuple(ended) if demands.end_of_life else ())


# --- what counts --------------------------------------------------------------------------------


def covers(evidence: ScanEvidence, scans: Scans) -> Sequence[Platform]:
    """The platforms that the scan was of. What names the index alone was of one of them, and says
    not of which, unless nodes have one only."""
    named = [each for each in scans.platforms if not each.digests.isdisjoint(evidence.digests)]
    if not named and evidence.digests == {scans.digest} and len(scans.platforms) == 1:
        return scans.platforms
    return named


def flaw(evidence: ScanEvidence, scans: Scans, demands: Demands, now: float) -> str:
    """Why a scan does not count, completing "ORIGIN …"; "" where it does."""
    if not covers(evidence, scans):
        return foreign(evidence, scans)
    return _flaw(evidence, demands, now)


def foreign(evidence: ScanEvidence, scans: Scans) -> str:
    """Why a scan that covers no platform does not."""
    names = ", ".join(each.name for each in scans.platforms)
    if scans.digest not in evidence.digests:
        return "is of another image: it names none of its digests"
    if len(evidence.digests) > 1:
        return f"is of a platform that nodes do not have: they have {names}"
    return f"names the index alone, and not which of {names} was scanned"


def _flaw(evidence: ScanEvidence, demands: Demands, now: float) -> str:
    """Why a scan of the image does not count, "" where it does."""
    if not evidence.scanned:
        return "does not say when it was made"
    if evidence.scanned > now + SKEW_SECONDS:
        return f"says that it was made at {moment(evidence.scanned)}, which is to come"
    age = now - evidence.scanned
    if age > demands.max_age:
        return f"is {span(age)} old, and at most {span(demands.max_age)} are allowed"
    return _database_flaw(evidence, demands.database) if demands.database else ""


def _database_flaw(evidence: ScanEvidence, most: float) -> str:
    if not evidence.database:
        return "does not say how old the scanner's database was"
    behind = evidence.scanned - evidence.database
    if behind > most:
        return (
            f"was made with a database that was {span(behind)} old,"
            f" and at most {span(most)} are allowed"
        )
    return ""


def _missing(reasons: list[str], left: list[Platform], *, some: bool) -> Iterator[str]:
    if not reasons and not some:
        yield "nothing was found"
    if some:
        yield f"none is of {', '.join(each.name for each in left)}"
    yield from reasons


# --- what decides -------------------------------------------------------------------------------


def _decides(vulnerability: Vulnerability, demands: Demands, allowed: set[str], now: float) -> bool:
    if vulnerability.severity not in demands.fail_on:
        return False
    if not allowed.isdisjoint(_names(vulnerability)):
        return False
    if demands.ignore_unfixed and vulnerability.fix in UNFIXED:
        return False
    if not (demands.grace and vulnerability.published):
        return True
    return not -SKEW_SECONDS <= now - vulnerability.published < demands.grace


def _names(vulnerability: Vulnerability) -> list[str]:
    """As they are compared: scanners and people write them in either case."""
    return [name.casefold() for name in (vulnerability.id, *vulnerability.aliases)]


# What is said of vulnerabilities, by their names, and there by the package and the version of it:
# when, and whether it is bad.
_Said = dict[str, dict[tuple[str, str], tuple[float, bool]]]


def _said(scans: Scans, counting: Iterable[_Counting], now: float) -> dict[Platform, _Said]:
    """Of each platform by the newest statements; of two of one time by the stricter one. What is to
    come says nothing yet."""
    found: dict[Platform, _Said] = {platform: {} for platform in scans.platforms}
    for statement, platforms in _statements(scans, counting):
        if statement.time > now + SKEW_SECONDS:
            continue
        place = statement.package, statement.installed
        says = statement.time, statement.status not in LIFTING
        for name in {each.casefold() for each in statement.names}:
            for platform in platforms:
                places = found[platform].setdefault(name, {})
                places[place] = max(places.get(place, says), says)
    return found


def _statements(
    scans: Scans, counting: Iterable[_Counting]
) -> Iterator[tuple[Statement, Sequence[Platform]]]:
    """With the platforms that each is of, by what it names itself or else by what it came with."""
    for scan in counting:
        for each in scan.evidence.statements:
            yield each, _bound(each.products, scans) if each.products else scan.covered
    for document in (each.document for each in scans.found):
        if not isinstance(document, ScanEvidence):
            for each in document.statements:
                yield each, _bound(each.products or document.digests, scans)


def _bound(digests: frozenset[str], scans: Scans) -> Sequence[Platform]:
    """An index stands for all of its platforms."""
    if scans.digest in digests:
        return scans.platforms
    return [each for each in scans.platforms if not each.digests.isdisjoint(digests)]


def _lifted(
    vulnerability: Vulnerability, platforms: Iterable[Platform], said: Mapping[Platform, _Said]
) -> bool:
    """By the newest statement on it, on each of the platforms that it was found on."""
    return bool(said) and all(_lifted_on(vulnerability, said[each]) for each in platforms)


def _lifted_on(vulnerability: Vulnerability, said: _Said) -> bool:
    package, installed = vulnerability.package, vulnerability.installed
    places = {("", ""), (package, ""), ("", installed), (package, installed)}
    about = [
        known[place]
        for known in (said.get(name, {}) for name in _names(vulnerability))
        for place in places
        if place in known
    ]
    return bool(about) and not max(about)[1]


_SEVERITIES = {"CRITICAL": 0, "HIGH": 1, "MEDIUM": 2, "LOW": 3, "NEGLIGIBLE": 4, "UNKNOWN": 5}


def _ordered(bad: Iterable[Bad]) -> tuple[Bad, ...]:
    """Each once, whoever tells of it."""
    once: dict[tuple[str, str], Bad] = {}
    for each in bad:
        once.setdefault((each.vulnerability.id, each.vulnerability.package), each)
    return tuple(sorted(once.values(), key=_rank))


def _rank(bad: Bad) -> tuple[int, str, str]:
    found = bad.vulnerability
    return _SEVERITIES[found.severity], found.id, found.package


# --- words --------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """How long, in the largest unit that leaves at least two of it."""
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"


def moment(at: float) -> str:
    """In RFC 3339."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"{at:.0f}"
