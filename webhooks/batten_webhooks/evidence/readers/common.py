"""What the readers share: how they decode, and how a scanner's words become the model's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TypeVar, get_args

import msgspec

from batten_webhooks.evidence.model import (
    MOST_BYTES,
    MOST_VULNERABILITIES,
    Document,
    Fix,
    Severity,
    Statement,
    Status,
    Unreadable,
    Vulnerability,
)

Encoded = bytes | msgspec.Raw

# 10 MiB of what scanners write have some 200,000 objects and lists and 500,000 commas. More of them
# would make the decoded values take many times the memory of the bytes.
MOST_CONTAINERS = 300_000
MOST_COMMAS = 800_000
# An image has an index, some platforms with two digests each, and names in some repositories.
MOST_DIGESTS = 500
LONGEST_ID = 100
# What is found counts, whether or not it has a name.
UNNAMED = "unnamed"
LONGEST_NAME = 200
LONGEST_SENTENCE = 300

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
FIXES: tuple[Fix, ...] = get_args(Fix)
STATUSES: frozenset[Status] = frozenset(get_args(Status))
# Red Hat's, CycloneDX's and GitHub's words beside the model's own.
_SEVERITY: dict[str, Severity] = {word: word for word in SEVERITIES} | {
    "IMPORTANT": "HIGH",
    "MODERATE": "MEDIUM",
    "MINIMAL": "LOW",
    "INFO": "NEGLIGIBLE",
    "INFORMATIONAL": "NEGLIGIBLE",
    "NONE": "NEGLIGIBLE",
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d{1,20})?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LONGEST = (datetime.max.replace(microsecond=0, tzinfo=UTC) - _EARLIEST).total_seconds()

T = TypeVar("T")


class Shape(msgspec.Struct, gc=False):
    """What is taken of a document. Other fields are passed over, and no object is made of them."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Of one format: `keys` are what all of its documents have at the top."""

    format: str
    keys: frozenset[str]
    read: Callable[[Encoded], Document]


def bounded(data: bytes) -> bytes:
    """The same bytes, if decoding them takes bounded time and memory. Raises Unreadable."""
    if len(data) > MOST_BYTES:
        raise Unreadable(f"has more than {MOST_BYTES // 2**20} MiB")
    if data.count(b"{") + data.count(b"[") > MOST_CONTAINERS:
        raise Unreadable(f"has more than {MOST_CONTAINERS:,} objects and lists")
    if data.count(b",") > MOST_COMMAS:
        raise Unreadable(f"has more than {MOST_COMMAS:,} values")
    return data


def decode(data: Encoded, shape: type[T], name: str) -> T:
    """`name` tells what it should be, as "Trivy JSON". Raises Unreadable."""
    try:
        return msgspec.json.decode(data, type=shape)
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        why = text(str(error), LONGEST_SENTENCE)
        raise Unreadable(f"is no {name} that Batten understands: {why}") from None


def encode(value: object) -> bytes:
    """A decoded document's bytes. Raises Unreadable."""
    try:
        data = msgspec.json.encode(value)
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError):
        raise Unreadable("is no JSON") from None
    return bounded(data)


def text(value: str | None, longest: int = LONGEST_NAME) -> str:
    """Fit for a message: of bounded length, and without what would forge lines of it."""
    value = value or ""
    if len(value) > longest:
        value = value[: longest - 1] + "…"
    if not value.isprintable():
        value = value.encode("unicode_escape").decode()[:longest]
    return value


def identifier(value: str | None) -> str:
    """A vulnerability's name as it is written, CVE's in capitals."""
    value = (value or "")[: LONGEST_ID + 1]
    return text(value.upper() if value[:4].lower() == "cve-" else value, LONGEST_ID)


def digests(names: Iterable[str | None]) -> frozenset[str]:
    """Those of names such as `sha256:…` and `registry.example/app@sha256:…` that have one.

    Raises Unreadable for too many.
    """
    ends = (name.rpartition("@")[2] for name in names if name)
    result = frozenset(end for end in ends if _DIGEST.fullmatch(end))
    if len(result) > MOST_DIGESTS:
        raise Unreadable(f"names more than {MOST_DIGESTS} digests")
    return result


def moment(value: str | None) -> float:
    """RFC 3339 in Unix seconds; 0 for what is none, has no zone, or is in UTC before 2000 or after
    9999, which nobody could write down."""
    return _moment(value) if value and len(value) <= 64 else 0.0


@lru_cache(maxsize=4096)
def _moment(value: str) -> float:
    match = _TIME.fullmatch(value)
    if match is None:
        return 0.0
    *numbers, fraction, sign, hours, minutes = match.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        zone = timezone(-offset if sign == "-" else offset)
        # A leap second has the number 60.
        at = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
        seconds = (at - _EARLIEST).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    if not 0 <= seconds <= _LONGEST:
        return 0.0
    return _EARLIEST.timestamp() + min(seconds + float(fraction or 0), _LONGEST)


def older(first: float, second: float) -> float:
    """Of two times the earlier one that is known."""
    return min(first, second) if first and second else first or second


def severity(word: str | None) -> Severity:
    return _SEVERITY.get((word or "")[:LONGEST_ID].strip().upper(), "UNKNOWN")


def severity_of_score(score: float) -> Severity:
    """CVSS 3.1, section 5, Qualitative Severity Rating Scale."""
    if not 0 <= score <= 10:
        return "UNKNOWN"
    bounds: tuple[tuple[float, Severity], ...] = (
        (9, "CRITICAL"),
        (7, "HIGH"),
        (4, "MEDIUM"),
        (0.1, "LOW"),
    )
    return next((word for least, word in bounds if score >= least), "NEGLIGIBLE")


def worst(severities: Iterable[Severity]) -> Severity:
    return min(severities, key=SEVERITIES.index, default="UNKNOWN")


# Images share their bases, and so do thousands of scans the values of what was found in them.
vulnerability = lru_cache(maxsize=2**15)(Vulnerability)


def merged(found: Iterable[Vulnerability]) -> tuple[Vulnerability, ...]:
    """Each of a package once, the worst that is said of it. Raises Unreadable for too many."""
    result: dict[tuple[str, str, str], Vulnerability] = {}
    for new in few(found):
        known = result.setdefault(place(new), new)
        if _badness(new) < _badness(known):
            result[place(new)] = new
    return tuple(result.values())


def place(found: Vulnerability) -> tuple[str, str, str]:
    return found.id, found.package, found.installed


def _badness(found: Vulnerability) -> tuple[int, int]:
    return SEVERITIES.index(found.severity), FIXES.index(found.fix)


def stated(found: Vulnerability, status: Status, time: float, justification: str) -> Statement:
    """What a scan says of one that was found in it."""
    return Statement(
        names=frozenset((found.id, *found.aliases)),
        status=status,
        time=time,
        package=found.package,
        installed=found.installed,
        justification=text(justification, LONGEST_SENTENCE),
    )


def with_set_aside(
    reported: Iterable[Vulnerability], aside: Iterable[tuple[Vulnerability, Statement]]
) -> tuple[tuple[Vulnerability, ...], tuple[Statement, ...]]:
    """All that a scanner found, and what set some of it aside.

    Such a statement holds for one place of a package. Where the same version of it is reported from
    another place, it is left out: the model does not tell them apart.
    """
    reported, aside = merged(reported), list(few(aside))
    still = {place(one) for one in reported}
    found = merged((*reported, *(one for one, _ in aside)))
    return found, tuple(statement for one, statement in aside if place(one) not in still)


def few(items: Iterable[T]) -> Iterator[T]:
    """The same ones. Raises Unreadable where there are too many."""
    for count, item in enumerate(items):
        if count == MOST_VULNERABILITIES:
            raise Unreadable(f"has more than {MOST_VULNERABILITIES:,} vulnerabilities")
        yield item


def present(data: Encoded, keys: Iterable[str]) -> frozenset[str]:
    """Which of the keys a JSON object has at the top. Raises Unreadable for what is none."""
    names = {f"key{number}": key for number, key in enumerate(sorted(keys))}
    top = decode(data, _top(tuple(names.items())), "JSON object")
    return frozenset(key for name, key in names.items() if bytes(getattr(top, name)))


@lru_cache(maxsize=16)
def _top(names: tuple[tuple[str, str], ...]) -> type[msgspec.Struct]:
    """A key such as `@context` is no name of a field."""
    fields = [(name, msgspec.Raw, msgspec.Raw()) for name, _ in names]
    return msgspec.defstruct("Top", fields, rename=dict(names), gc=False)
