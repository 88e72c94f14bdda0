"""`batten evidence from`: a scanner's file as an ImageScan, or as a predicate to attest."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from batten_webhooks.cli import CannotRun, command_module
from batten_webhooks.cli.evidence_files import Read, read_evidence
from batten_webhooks.evidence.collect import named
from batten_webhooks.evidence.judge import covers, foreign
from batten_webhooks.evidence.model import MOST_BYTES, ScanEvidence, Vex
from batten_webhooks.evidence.scans import Platform, Scans
from batten_webhooks.evidence.written import image_of, predicate, with_vex
from batten_webhooks.images.content import checked_digest
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.messages import printable
from batten_webhooks.reference import InvalidReference, parse_reference

FEWER = "scan with fewer severities, as trivy image --severity HIGH,CRITICAL"
# An envelope holds it in base64, with little around it.
MOST_PREDICATE = MOST_BYTES * 3 // 4 - 2**16


def run(options: Namespace) -> int:
    read = [read_evidence(path) for path in dict.fromkeys(options.files)]
    scan, evidence, vex = _apart(read)
    if not evidence.scanned:
        raise CannotRun(
            f"{scan.name}: does not say when it was made, so that it would count for nothing:"
            " give the scanner's own JSON"
        )
    if options.format == "attestation":
        _print_predicate(scan, evidence, vex)
    else:
        _print_image_scan(options, scan, evidence, vex)
    return 0


def _apart(read: Sequence[Read]) -> tuple[Read, ScanEvidence, list[Vex]]:
    scans = [(each, each.scan) for each in read if each.scan is not None]
    if not scans:
        raise CannotRun(
            f"{read[0].name}: is VEX, which says what is true of a scan: name the scan's file, too"
        )
    if len(scans) > 1:
        names = " and ".join(each.name for each, _ in scans)
        raise CannotRun(f"{names}: are scans, and one at a time is written: run it for each")
    (scan, evidence), *_ = scans
    assert evidence is not None  # noqa: S101 - those without were left out
    return scan, evidence, [each.vex for each in read if each.vex is not None]


# --- attestations -------------------------------------------------------------------------------


def _print_predicate(scan: Read, evidence: ScanEvidence, vex: Sequence[Vex]) -> None:
    if vex:
        raise CannotRun(
            "VEX is attested by itself: cosign attest --type openvex --predicate FILE IMAGE@DIGEST"
        )
    found = predicate(scan.data, evidence)
    text = json.dumps(found.value, indent=1, ensure_ascii=False)
    if len(text.encode()) > MOST_PREDICATE:
        raise CannotRun(
            f"{scan.name}: attested it would have more than {MOST_BYTES // 2**20} MiB, which nobody"
            f" reads: {FEWER}"
        )
    print(text)
    print(f"batten: for cosign attest --type {found.type}", file=sys.stderr)


# --- ImageScans ---------------------------------------------------------------------------------


def _print_image_scan(
    options: Namespace, scan: Read, evidence: ScanEvidence, vex: Sequence[Vex]
) -> None:
    image = _image(options.image, scan)
    told = [_digest(text) for text in options.digest]
    told += [digest] if (digest := parse_reference(image).digest) else []
    evidence = replace(evidence, digests=evidence.digests.union(told))
    platforms: Sequence[Platform] = ()
    if options.look_up:
        evidence, platforms = _looked_up(options, image, scan.name, evidence)
    if not evidence.digests:
        raise CannotRun(
            f"{scan.name}: names no digest, so that nobody knows of which image it is: say it, as"
            " --image NAME@sha256:… or --digest sha256:…, or ask its registry with --look-up"
        )
    evidence = with_vex(evidence, vex)
    best = [each.manifest for each in platforms] or [
        *(_digest(text) for text in options.digest),
        *_specific(scan.data, evidence),
    ]
    name = options.name or best[0].replace(":", "-")
    platform = platforms[0].name if len(platforms) == 1 else ""
    _print(scan.name, name, image, evidence, platform)


def _print(file: str, name: str, image: str, evidence: ScanEvidence, platform: str) -> None:
    import yaml  # noqa: PLC0415 - takes its time

    from batten_webhooks.resources import (  # noqa: PLC0415 - pydantic takes its time
        Invalid,
        read_image_scan,
    )
    from batten_webhooks.resources.image_scan import (  # noqa: PLC0415
        MOST_STATEMENTS,
        MOST_VULNERABILITIES,
        image_scan,
    )

    for what, count, most in (
        ("vulnerabilities", len(evidence.vulnerabilities), MOST_VULNERABILITIES),
        ("VEX statements", len(evidence.statements), MOST_STATEMENTS),
    ):
        if count > most:
            raise CannotRun(
                f"{file}: has {count:,} {what}, and an ImageScan holds {most:,}: {FEWER},"
                " or attest it with --format attestation"
            )
    value: dict[str, Any] = image_scan(name, image, evidence, platform)
    try:
        read_image_scan(value)
    except Invalid as error:
        raise CannotRun(f"{file}: makes no ImageScan: {error}") from None
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    yaml.dump(value, sys.stdout, dumper, sort_keys=False, width=100, allow_unicode=True)


def _image(text: str, scan: Read) -> str:
    if not text:
        found = image_of(scan.data)
        if not found:
            raise CannotRun(f"{scan.name}: does not name its image: say it with --image NAME")
        return found
    try:
        return str(parse_reference(text))
    except InvalidReference as error:
        raise CannotRun(f"--image {printable(text)}: {error}") from None


def _digest(text: str) -> str:
    try:
        return checked_digest(text)
    except RegistryError as error:
        raise CannotRun(f"--digest: {error}: it is of the form sha256:… with 64 digits") from None


def _specific(data: bytes, evidence: ScanEvidence) -> list[str]:
    """From those on that are of one platform: what stands after a repository's name may be an
    index's, of which there are several scans."""
    return sorted(evidence.digests, key=lambda each: (b"@" + each.encode() in data, each))


def _looked_up(
    options: Namespace, image: str, file: str, evidence: ScanEvidence
) -> tuple[ScanEvidence, Sequence[Platform]]:
    """With all digests of the platforms that were scanned, as the image's registry tells them."""
    with command_module("batten_webhooks.cli.registries").LookUp(options) as look_up:
        answer = look_up.contents([image])[image]
    if isinstance(answer, Exception):
        raise CannotRun(f"image {printable(image)}: {answer}")
    digest, contents = answer
    scans = Scans(digest, named(contents))
    if not evidence.digests and len(scans.platforms) == 1:
        evidence = replace(evidence, digests=frozenset((digest,)))
    covered = covers(evidence, scans)
    if not covered:
        known = ", ".join(f"{each.name} is {each.manifest}" for each in scans.platforms)
        wrong = foreign(evidence, scans) if evidence.digests else "names no digest"
        raise CannotRun(
            f"{file}: {wrong}: say with --digest which platform was scanned; of"
            f" {printable(image)} {known}"
        )
    digests = evidence.digests.union((digest,), *(each.digests for each in covered))
    return replace(evidence, digests=digests), covered
