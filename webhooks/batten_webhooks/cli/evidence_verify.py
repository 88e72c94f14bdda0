"""`batten evidence verify`: all that a cluster would find of an image's scans, and what counts."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from typing import Any

from batten_webhooks.cli import CannotRun, command_module
from batten_webhooks.cli.evidence_check import code, print_actions, print_json, verdict
from batten_webhooks.cli.evidence_judge import Demand, Judged, Piece, demand, judged, local
from batten_webhooks.cli.judge import read_policy
from batten_webhooks.cli.terminal import Styled, styler
from batten_webhooks.evidence.judge import moment, span
from batten_webhooks.evidence.model import ScanEvidence, Severity, Vex
from batten_webhooks.messages import printable
from batten_webhooks.rules.scanned_image import Parameters, Source

MOST_TOLD = 20
SEVERITIES: tuple[Severity, ...] = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "NEGLIGIBLE", "UNKNOWN")


def run(options: Namespace) -> int:
    live = None if options.no_cluster else command_module("batten_operator.evidence")
    demanded = _demand(options, live)
    kinds = {source.kind for source in demanded.parameters.sources}
    stored = None if live is None else live.Stored(options.context, kinds).of
    options.images = [options.image]
    found = judged(options, demanded, local(options.scan, demanded), stored)
    if options.format == "json":
        print_json(demanded, found)
        return code(found)
    styled = styler(options.color)
    print("\n".join(line for each in found for line in _lines(each, demanded, styled)))
    print_actions(demanded, found)
    return code(found)


def _demand(options: Namespace, live: Any) -> Demand:
    """The cluster's own policy, where no other one is to be tried. Raises CannotRun."""
    if options.policy or live is None:
        return demand(read_policy(options.policy or "hardened"))
    governance, namespaces = command_module("batten_operator.audit").governing(options)
    place = options.namespace
    if governance.needs_labels and place not in namespaces:
        raise CannotRun(f"the cluster has no namespace {printable(place)!r}: name another one")
    governed = governance.governing(place, namespaces.get(place, {}), {}, time.time())
    return demand(governed.policy, f"in namespace {printable(place)}, {governed.why}")


def _lines(each: Judged, demanded: Demand, styled: Styled) -> Iterator[str]:
    yield styled("bold", printable(each.reference))
    if each.scans.digest:
        yield f"  {each.scans.digest}"
    width = max((len(platform.name) for platform in each.scans.platforms), default=0)
    for platform in each.scans.platforms:
        yield f"    {platform.name:<{width}}  manifest      {platform.manifest}"
        yield f"    {'':<{width}}  configuration {platform.configuration}"
    why = f" ({demanded.why})" if demanded.why else ""
    yield f"  judged by {demanded.policy.title}{why}: {_asks(demanded.parameters)}"
    for source in demanded.parameters.sources:
        yield f"  looked for {_looked(source)}"
    for piece in each.pieces:
        yield from _piece(piece, each.now, styled)
    if not each.pieces and each.scans.digest:
        yield "  found nothing"
    yield from _decides(each)
    yield from verdict(each, styled)


def _asks(asked: Parameters) -> str:
    parts = [f"at most {asked.max_age} old", f"no {', '.join(asked.fail_on) or 'severity'}"]
    if asked.max_database_age:
        parts.append(f"by a database of at most {asked.max_database_age}")
    if asked.ignore_unfixed:
        parts.append("but what has no fix")
    if asked.grace:
        parts.append(f"but what became known less than {asked.grace} ago")
    if asked.allow:
        parts.append(f"but {', '.join(each.id for each in asked.allow)}, as long as allowed")
    if asked.fail_on_end_of_life:
        parts.append("of a distribution that is maintained")
    return ", ".join(parts)


def _looked(source: Source) -> str:
    whom = []
    if source.users:
        whom.append(f"written by {' or '.join(source.users)}")
    if source.keys:
        keys = "a trusted key" if len(source.keys) == 1 else f"one of {len(source.keys)} keys"
        whom.append(f"signed with {keys}")
    if source.identity:
        whom.append(f"signed by {source.identity}, as {source.issuer} knows it")
    return " ".join((source.shown, ", or ".join(whom))).strip()


def _piece(piece: Piece, now: float, styled: Styled) -> Iterator[str]:
    counts = f"{styled('warning', 'does not count')}: it {piece.why}" if piece.why else "counts"
    yield f"  {piece.origin}: {counts}"
    document = piece.document
    if isinstance(document, ScanEvidence):
        yield f"    {_scan(document, now)}"
        platforms = ", ".join(each.name for each in piece.platforms)
        yield f"    of {platforms or 'none of its platforms'}: {_severities(document)}"
        for digest in sorted(document.digests):
            yield f"    names {digest}"
    elif isinstance(document, Vex):
        said = Counter(each.status for each in document.statements)
        told = ", ".join(f"{count} {status}" for status, count in sorted(said.items()))
        yield f"    VEX: {told or 'no statement'}"


def _scan(scan: ScanEvidence, now: float) -> str:
    told = f"by {' '.join(filter(None, (scan.scanner, scan.version)))}"
    if scan.scanned:
        told += f", {span(now - scan.scanned)} ago ({moment(scan.scanned)})"
    if scan.database:
        told += f", with a database of {moment(scan.database)}"
    return told


def _severities(scan: ScanEvidence) -> str:
    counted = Counter(each.severity for each in scan.vulnerabilities)
    told = [f"{counted[each]} {each}" for each in SEVERITIES if counted[each]]
    return ", ".join(told) or "no vulnerability"


def _decides(each: Judged) -> Iterator[str]:
    for bad in each.bad[:MOST_TOLD]:
        found = bad.vulnerability
        where = f" in {found.package} {found.installed}".rstrip() if found.package else ""
        fixed = f", fixed in {found.fixed_in}" if found.fixed_in else ""
        yield f"  decides: {found.severity} {found.id}{where}{fixed}, says {bad.origin}"
    if len(each.bad) > MOST_TOLD:
        yield f"  decide: {len(each.bad) - MOST_TOLD} more"
