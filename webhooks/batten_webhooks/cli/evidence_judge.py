"""What is known of images' scans, and what a policy makes of it: for `check` and `verify`."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from batten_webhooks.cli import CannotRun, command_module
from batten_webhooks.cli.evidence_files import read_evidence
from batten_webhooks.evidence.attested import outcomes, trusts
from batten_webhooks.evidence.collect import Outcome, Stored, collect
from batten_webhooks.evidence.judge import Bad, covers, flaw, judge
from batten_webhooks.evidence.model import ScanEvidence, Vex
from batten_webhooks.evidence.scans import Found, Platform, Rejected, Scans
from batten_webhooks.evidence.written import with_vex
from batten_webhooks.messages import printable
from batten_webhooks.policy import Policy, Setting
from batten_webhooks.reference import InvalidReference, Reference, parse_reference
from batten_webhooks.rules import scanned_image
from batten_webhooks.rules.pinned_digest import matches
from batten_webhooks.rules.rule import VERSIONS, Context, Facts, shown
from batten_webhooks.rules.scanned_image import Parameters, demands
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import read_object

if TYPE_CHECKING:
    from batten_webhooks.cli.registries import Contents, Failure, LookUp

RULE = scanned_image.RULE.name
# Of what is in no registry yet. No pattern of a policy is meant to match it.
NOWHERE, UNNAMED = "scan.invalid/scanned", f"sha256:{'0' * 64}"


@dataclass(frozen=True, slots=True)
class Demand:
    """The policy's rule on scans. `why` tells how it comes to govern, "" where it was named."""

    policy: Policy
    setting: Setting
    why: str = ""

    @property
    def parameters(self) -> Parameters:
        parameters: Parameters = self.setting.parameters
        return parameters


@dataclass(frozen=True, slots=True)
class Piece:
    """One that was found. `why` says why it does not count, "" where it does."""

    origin: str
    why: str
    document: ScanEvidence | Vex | None = None
    platforms: tuple[Platform, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """One image. `findings` are the rule's own, on a Pod that names the image's digest."""

    reference: str
    scans: Scans
    exempt: bool
    pieces: tuple[Piece, ...]
    bad: tuple[Bad, ...]
    findings: tuple[Finding, ...]
    now: float

    @property
    def allowed(self) -> bool:
        return not self.findings

    @property
    def digest(self) -> str:
        """As its registry tells it, "" where none was asked, or in vain."""
        return self.scans.digest if self.scans.looked else ""

    @property
    def platforms(self) -> tuple[Platform, ...]:
        return self.scans.platforms if self.scans.looked else ()


def demand(policy: Policy, why: str = "") -> Demand:
    """Raises CannotRun where the policy does not ask for scans."""
    setting = policy.setting(scanned_image.RULE)
    if setting is not None and setting.actions:
        return Demand(policy, setting, why)
    raise CannotRun(
        f"{policy.title} asks for no scans: name a policy whose rules have {RULE} with --policy"
    )


def local(paths: Iterable[str], demanded: Demand) -> list[Outcome]:
    """Scans and VEX in files, which count as ImageScans of one who is trusted. Raises CannotRun."""
    found = _files(paths)
    if any(source.kind == "ImageScan" for source in demanded.parameters.sources):
        return [*found]
    told = "would be an ImageScan, and the policy believes none"
    return [Rejected(each.origin, "forged", told) for each in found]


def unpushed(paths: Sequence[str], demanded: Demand) -> list[Judged]:
    """Each scan's own image, which no registry needs to have yet: whoever writes the scan for the
    cluster later on is taken to be believed there. Raises CannotRun."""
    files, now = _files(paths), time.time()
    scanned = [each for each in files if isinstance(each.document, ScanEvidence)]
    if not scanned:
        raise CannotRun("nothing to judge: name an IMAGE, or a --scan of one")
    found = []
    for each in scanned:
        digest = min(each.document.digests, default=UNNAMED)
        evidence = replace(each.document, digests=each.document.digests.union((digest,)))
        others = (other for other in files if not isinstance(other.document, ScanEvidence))
        scans = Scans(
            digest,
            (Platform("what was scanned", digest),),
            (Found(each.origin, evidence), *others),
        )
        pod = f"{NOWHERE}@{digest}"
        found.append(_judge(each.origin, pod, scans, demanded.parameters, now))
    return found


def _files(paths: Iterable[str]) -> list[Found]:
    """VEX holds for the scans beside it, as `batten evidence from` writes them together."""
    read = [read_evidence(path) for path in dict.fromkeys(paths)]
    vex = [each.vex for each in read if each.vex is not None]
    return [
        Found(f"file {each.name}", with_vex(each.scan, vex) if each.scan else each.document)
        for each in read
    ]


def _of(files: Sequence[Outcome], digests: frozenset[str]) -> Sequence[Outcome]:
    """Those that may be of an image: all where none names it, so that their reader is told."""
    others = [
        each
        for each in files
        if isinstance(each, Found)
        and isinstance(each.document, ScanEvidence)
        and digests.isdisjoint(each.document.digests)
    ]
    mine = [each for each in files if each not in others]
    named = any(
        isinstance(each, Found) and isinstance(each.document, ScanEvidence) for each in mine
    )
    return mine if named else files


def references(texts: Iterable[str]) -> dict[str, Reference]:
    """Raises CannotRun for the first that names no image."""
    found = {}
    for text in texts:
        try:
            found[text] = parse_reference(text)
        except InvalidReference as error:
            raise CannotRun(f"image {printable(text)}: {error}") from None
    return found


def judged(
    options: Namespace,
    demanded: Demand,
    files: Sequence[Outcome],
    stored: Callable[[frozenset[str]], tuple[Sequence[Stored], Sequence[Outcome]]] | None = None,
) -> list[Judged]:
    """Each of `options.images`. `stored` is asked once for what the cluster holds of any of all the
    digests, and what of it could not be read. Raises CannotRun."""
    named, parameters = references(options.images), demanded.parameters
    with command_module("batten_webhooks.cli.registries").LookUp(options) as opened:
        look_up: LookUp = opened
        answers = look_up.contents(named)
        pinned = {
            text: (_pinned(named[text], answer), answer)
            for text, answer in answers.items()
            if not isinstance(answer, Exception)
        }
        beside = _attested(look_up, dict(pinned.values()), demanded, options.trusted_root)
    known = frozenset(d for _, answer in pinned.values() for d in _digests(answer))
    held, unread = stored(known) if stored is not None and known else ((), ())
    now, found = time.time(), []
    for text, answer in answers.items():
        if isinstance(answer, Exception):
            found.append(_unknown(text, answer, now))
            continue
        pod, (digest, platforms) = pinned[text]
        mine = _digests(answer)
        own = [each for each in held if not mine.isdisjoint(each.evidence.digests)]
        around = [*beside.get(pod, ()), *_of(files, mine), *unread]
        scans = collect(digest, platforms, parameters.sources, own, around)
        found.append(_judge(text, pod, scans, parameters, now))
    return found


def _unknown(reference: str, error: Failure, now: float) -> Judged:
    """Of what is not known itself nothing is known."""
    finding = Finding("", f"image {shown(reference)} cannot be looked up: {error}", "try again")
    return Judged(reference, Scans("", error=f"{error}"), False, (), (), (finding,), now)


def _digests(answer: Contents) -> frozenset[str]:
    digest, platforms = answer
    return frozenset((digest, *(d for p in platforms for d in (p.digest, p.configuration_digest))))


def _pinned(reference: Reference, answer: Contents) -> str:
    """As a Pod names it that runs: by digest."""
    return str(Reference(reference.registry, reference.repository, reference.tag, answer[0]))


def _attested(
    look_up: LookUp, images: dict[str, Contents], demanded: Demand, root: str
) -> dict[str, list[Outcome]]:
    trusted = trusts(demanded.parameters.sources)
    if not trusted or not images:
        return {}
    answers = look_up.attested(images, trusted, Path(root) if root else None)
    return {
        text: [_unread(answer)] if isinstance(answer, Exception) else [*outcomes(*answer)]
        for text, answer in answers.items()
    }


def _unread(error: Failure) -> Rejected:
    return Rejected("what is beside the image", "unavailable", f"cannot be read: {error}")


def _judge(reference: str, pod: str, scans: Scans, parameters: Parameters, now: float) -> Judged:
    exempt = matches(parameters.exempt, pod)
    asked = demands(parameters)
    return Judged(
        reference,
        scans,
        exempt,
        tuple(_piece(each, scans, parameters, now) for each in scans.found)
        + tuple(Piece(each.origin, each.why) for each in scans.rejected),
        () if exempt else judge(scans, asked, now).bad,
        () if exempt else tuple(_findings(pod, scans, parameters, now)),
        now,
    )


def _piece(found: Found, scans: Scans, parameters: Parameters, now: float) -> Piece:
    document = found.document
    if isinstance(document, ScanEvidence):
        why = flaw(document, scans, demands(parameters), now)
        return Piece(found.origin, why, document, tuple(covers(document, scans)))
    if not parameters.vex:
        return Piece(found.origin, "is VEX, which the policy does not heed", document)
    bound = any(
        not (each.products or document.digests).isdisjoint(scans.digests)
        for each in document.statements
    )
    why = "" if bound else "says nothing of this image: it names none of its digests"
    return Piece(found.origin, why, document)


def _findings(image: str, scans: Scans, parameters: Parameters, now: float) -> Iterable[Finding]:
    """What the webhooks would say of a Pod."""
    containers = [{"name": "image", "image": image}]
    value = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}}
    workload = read_object(value)
    assert workload is not None  # noqa: S101 - a Pod is one
    context = Context(Facts(scans={image: scans}, now=now), VERSIONS[-1])
    for found in scanned_image.RULE.check(workload, parameters, context):
        if isinstance(found, Finding):
            yield found
