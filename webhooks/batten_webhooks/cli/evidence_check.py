"""`batten evidence check`: whether images may run by what is known of their scans."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from batten_webhooks.cli.evidence_judge import (
    Demand,
    Judged,
    Piece,
    demand,
    judged,
    local,
    unpushed,
)
from batten_webhooks.cli.judge import read_policy
from batten_webhooks.cli.terminal import Styled, styler
from batten_webhooks.evidence.judge import Bad, moment, span
from batten_webhooks.evidence.model import ScanEvidence
from batten_webhooks.evidence.scans import Platform
from batten_webhooks.messages import printable

SCHEMA = 1


def run(options: Namespace) -> int:
    demanded = demand(read_policy(options.policy))
    if options.images:
        found = judged(options, demanded, local(options.scan, demanded))
    else:
        found = unpushed(options.scan, demanded)
    if options.format == "json":
        print_json(demanded, found)
    else:
        styled = styler(options.color)
        print("\n\n".join("\n".join(lines(each, styled)) for each in found))
        print_actions(demanded, found)
    return code(found)


def code(found: Sequence[Judged]) -> int:
    return 0 if all(each.allowed for each in found) else 1


def print_actions(demanded: Demand, found: Sequence[Judged]) -> None:
    """A cluster may let in what the rule objects to."""
    actions = demanded.setting.actions
    if code(found) and "Deny" not in actions:
        only = "warns of it" if "Warn" in actions else "records it"
        print(f"\n{demanded.policy.title} only {only}: a cluster with it lets it run all the same")


def lines(each: Judged, styled: Styled) -> Iterator[str]:
    yield styled("bold", printable(each.reference))
    if each.digest:
        yield f"  {each.digest} ({', '.join(platform.name for platform in each.platforms)})"
    yield from verdict(each, styled)


def verdict(each: Judged, styled: Styled) -> Iterator[str]:
    for finding in each.findings:
        told = without_image(finding.detail)
        yield f"  {styled('error', 'may not run')}: {told}"
        yield f"    {finding.remedy}"
    if each.exempt:
        yield f"  {styled('note', 'may run')}: the policy exempts it"
    elif each.allowed:
        ages = [
            f"{piece.origin} was made {span(each.now - piece.document.scanned)} ago"
            for piece in each.pieces
            if isinstance(piece.document, ScanEvidence) and not piece.why
        ]
        yield f"  {styled('note', 'may run')}: {'; '.join(ages)}"


def without_image(detail: str) -> str:
    """The image is named above it."""
    head, _, rest = detail.removeprefix("image ").partition(" ")
    return rest if detail.startswith("image ") and head else detail


# --- JSON ---------------------------------------------------------------------------------------


def print_json(demanded: Demand, found: Sequence[Judged]) -> None:
    value = {
        "version": SCHEMA,
        "policy": demanded.policy.title,
        "validationActions": sorted(demanded.setting.actions),
        "images": [_value(each) for each in found],
    }
    print(json.dumps(value, indent=2))


def _value(each: Judged) -> dict[str, Any]:
    return {
        "reference": each.reference,
        "digest": each.digest or None,
        "platforms": [_platform(platform) for platform in each.platforms],
        "allowed": each.allowed,
        "exempt": each.exempt,
        "looked": list(each.scans.looked),
        "evidence": [_piece(piece) for piece in each.pieces],
        "vulnerabilities": [_bad(bad) for bad in each.bad],
        "findings": [
            {"message": without_image(finding.detail), "remedy": finding.remedy}
            for finding in each.findings
        ],
    }


def _platform(platform: Platform) -> dict[str, Any]:
    return {
        "platform": platform.name,
        "manifest": platform.manifest,
        "configuration": platform.configuration,
    }


def _piece(piece: Piece) -> dict[str, Any]:
    scan = piece.document if isinstance(piece.document, ScanEvidence) else None
    kind = "unread" if piece.document is None else "scan" if scan is not None else "vex"
    return {
        "origin": piece.origin,
        "kind": kind,
        "counts": not piece.why,
        "why": piece.why,
        "scan": None if scan is None else _scan(scan, piece),
    }


def _scan(scan: ScanEvidence, piece: Piece) -> dict[str, Any]:
    return {
        "scanner": scan.scanner,
        "version": scan.version,
        "scannedAt": moment(scan.scanned) if scan.scanned else None,
        "databaseUpdatedAt": moment(scan.database) if scan.database else None,
        "endOfLife": scan.end_of_life,
        "digests": sorted(scan.digests),
        "platforms": [platform.name for platform in piece.platforms],
        "severities": dict(Counter(each.severity for each in scan.vulnerabilities)),
    }


def _bad(bad: Bad) -> dict[str, Any]:
    found = bad.vulnerability
    return {
        "id": found.id,
        "severity": found.severity,
        "package": found.package,
        "installed": found.installed,
        "fixedIn": found.fixed_in,
        "origin": bad.origin,
    }
