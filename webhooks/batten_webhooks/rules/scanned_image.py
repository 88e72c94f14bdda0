"""Images were scanned, lately, and nothing that matters was found in them.

## What it does
Objects to every image, image volumes among them, for which there is no scan that counts, or one
that found a vulnerability of a severity in `failOn`. It judges the digest that will run: a Pod
whose image has none is objected to until `pinned-digest` or its author names one. Deployments and
the like are only warned of while a scan is missing: their Pods are tried again, and get in once
there is one.

A scan counts if it comes from one of the `sources`, names a digest of the image, is not older than
`maxAge`, and was made with a database that was not older than `maxDatabaseAge` then. Every platform
that nodes have needs one. Of several the worst finding decides; one source never hides another.
What is absent, forged, too large or of another image counts for nothing, and the refusal says which
it was. There are three kinds of sources:

- `ImageScan`: objects that CI, `batten evidence` or a scan on demand writes. With `users` only
  those that these wrote, otherwise whoever may write an object of the cluster.
- `VulnerabilityReport`: those of Trivy Operator, of one of `namespaces` and written by one of
  `users`; one of both must be given, as whoever may write a report could forge it.
- `Attestation`: beside the image in its registry, signed by one of `keys` (public, in PEM), or
  without a key by the `identity` that an `issuer` vouches for.

A finding is passed over with `ignoreUnfixed` if there is no fix, for `grace` after it became known,
if the newest VEX statement on it says `not_affected` or `fixed` (unless `vex` is false), and if
`allow` names it, with a reason and an end. `failOnEndOfLife` objects to distributions that get no
more fixes. Images that match `exempt` need no scan.

`scanWith` names a PodTemplate in Batten's own Namespace by which an image is scanned that was not
yet. It is judged only where scans are looked for: in a cluster, and by `batten evidence`; a cluster
that looks no images up tells of it only where the rule denies. Its `validationActions` are `[Warn]`
unless a policy says otherwise of this very rule.

## Why is this bad?
What nobody has looked at may hold what everybody knows how to break into.

## Example
```yaml
containers:
  - name: app
    image: app:1.4.2   # nobody has scanned it
```

## Use instead
```yaml
containers:
  - name: app          # scanned, and written into an ImageScan
    image: app:1.4.3@sha256:696e646578000000000000000000000000000000000000000000000000000000
```

## References
- https://kubernetes.io/docs/concepts/security/security-checklist/#images
- https://github.com/openvex/spec
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal

from batten_webhooks.evidence.judge import Bad, Demands, Judgement, judge
from batten_webhooks.evidence.model import Severity
from batten_webhooks.evidence.scans import Platform, Scans
from batten_webhooks.image_pattern import InvalidPattern, parse_pattern
from batten_webhooks.reference import Reference
from batten_webhooks.rules.pinned_digest import OBJECT_NAME, matches, readable
from batten_webhooks.rules.rule import WARN, Context, Facts, Rule, shown
from batten_webhooks.verdict import Finding, Unknown
from batten_webhooks.workload import Workload

# Whether what was found lets an image run, `missing` where no scan counts.
Standing = Literal["passed", "refused", "missing"]
# More vulnerabilities, and more reasons, are only counted; longer ones are cut.
MOST_TOLD, LONGEST_TOLD = 5, 300
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)
_CVE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9:._]{2,99}")


@dataclass(frozen=True, slots=True)
class Source:
    """Where scans are looked for, and whom of those who write there is believed."""

    kind: Annotated[
        Literal["ImageScan", "VulnerabilityReport", "Attestation"], "What holds the scans."
    ]
    namespaces: Annotated[
        tuple[str, ...], "Of VulnerabilityReports: the Namespaces whose reports count."
    ] = ()
    users: Annotated[
        tuple[str, ...],
        "Of ImageScans and VulnerabilityReports: who must have written them, such as"
        " system:serviceaccount:trivy-system:trivy-operator.",
    ] = ()
    keys: Annotated[
        tuple[str, ...], "Of Attestations: public keys in PEM, of which one must have signed."
    ] = ()
    issuer: Annotated[
        str, "Of Attestations signed without a key: who vouches for the identity."
    ] = ""
    identity: Annotated[str, "Of Attestations signed without a key: who must have signed."] = ""

    def __post_init__(self) -> None:
        for name in ("namespaces", "users"):
            if not all(text.strip() for text in getattr(self, name)):
                raise ValueError(f"{name} must not hold an empty name: it would be nobody's")
        attested = self.kind == "Attestation"
        if attested and (self.namespaces or self.users):
            raise ValueError("namespaces and users are not of an Attestation: it is signed")
        if not attested and (self.keys or self.issuer or self.identity):
            raise ValueError("keys, issuer and identity are of an Attestation only")
        if self.kind == "ImageScan" and self.namespaces:
            raise ValueError("namespaces are not of an ImageScan, which has none")
        if self.kind == "VulnerabilityReport" and not (self.namespaces or self.users):
            raise ValueError(
                "a VulnerabilityReport needs namespaces or users: anybody who may write one could"
                " forge it"
            )
        if attested and not (self.keys or (self.issuer and self.identity)):
            raise ValueError("an Attestation needs keys, or an issuer and an identity")
        if bool(self.issuer) != bool(self.identity):
            raise ValueError("issuer and identity go together")
        for key in self.keys:
            if "-----BEGIN PUBLIC KEY-----" not in key:
                raise ValueError("keys must be public keys in PEM: -----BEGIN PUBLIC KEY-----")

    @property
    def shown(self) -> str:
        """Where it looks, in words."""
        if self.kind == "ImageScan":
            return "ImageScans"
        if self.kind == "Attestation":
            return "attestations beside the image"
        where = f" of {', '.join(self.namespaces)}" if self.namespaces else ""
        return f"VulnerabilityReports{where}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A vulnerability that does not decide, why, and until when, as in a HardeningException."""

    id: Annotated[str, "Of the vulnerability, such as CVE-2026-1234."]
    reason: Annotated[str, "Why it does not matter, for whoever finds it later."]
    expires: Annotated[str, "When that ends, in RFC 3339, such as 2027-03-31T00:00:00Z."]

    def __post_init__(self) -> None:
        if not _CVE.fullmatch(self.id):
            raise ValueError("id must be that of a vulnerability, such as CVE-2026-1234")
        if not self.reason.strip():
            raise ValueError("reason must say why")
        instant(self.expires)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is asked of scans, and where they are looked for. See `batten explain`."""

    sources: Annotated[
        tuple[Source, ...], "Where scans are looked for. Default: ImageScans, whoever wrote them."
    ] = (Source("ImageScan"),)
    max_age: Annotated[str, "How old a scan may be."] = "168h"
    max_database_age: Annotated[
        str, "How old the scanner's database may have been when it scanned. Left out: any age."
    ] = ""
    fail_on: Annotated[tuple[Severity, ...], "The severities that decide."] = ("CRITICAL",)
    ignore_unfixed: Annotated[bool, "Whether what nobody has mended yet is passed over."] = False
    fail_on_end_of_life: Annotated[
        bool, "Whether a distribution that gets no more fixes is objected to."
    ] = False
    vex: Annotated[bool, "Whether VEX statements lift what a scan found."] = True
    grace: Annotated[
        str, "For how long after it became known a vulnerability is passed over. Left out: not."
    ] = ""
    allow: Annotated[tuple[Allowed, ...], "Vulnerabilities that do not decide."] = ()
    exempt: Annotated[
        tuple[str, ...], "Patterns of images that need no scan, such as registry.example/base/*."
    ] = ()
    scan_with: Annotated[
        str,
        "The PodTemplate, in Batten's own Namespace, by which an image is scanned that was not yet."
        " Left out: none is.",
    ] = ""

    def __post_init__(self) -> None:
        for name in ("max_age", "max_database_age", "grace"):
            text = getattr(self, name)
            if (text or name == "max_age") and not seconds(text):
                raise ValueError(f"{name} must be a duration such as 168h, 90m or 1h30m")
        if not self.sources:
            raise ValueError(
                "sources must name one at least: ImageScan, VulnerabilityReport or Attestation"
            )
        if not (self.fail_on or self.fail_on_end_of_life):
            raise ValueError("fail_on must name a severity at least, such as CRITICAL")
        for text in self.exempt:
            try:
                parse_pattern(text)
            except InvalidPattern as error:
                raise ValueError(f"exempt {text!r} {error}") from None
        if self.scan_with and not OBJECT_NAME.fullmatch(self.scan_with):
            raise ValueError("scan_with must be the name of a PodTemplate")
        if self.scan_with and all(source.kind != "ImageScan" for source in self.sources):
            raise ValueError("scan_with writes ImageScans: name them in sources, too")


def seconds(text: str) -> float:
    """Of a duration as Kubernetes writes them (hours, minutes, seconds); 0 for what is none."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return 0.0
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return hours * 3600.0 + minutes * 60.0 + rest


def instant(text: str) -> float:
    """Unix seconds of a time of RFC 3339. Raises ValueError."""
    try:
        at = datetime.fromisoformat(text.upper())
        if at.tzinfo is None:
            raise ValueError
        return at.astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            "expires must be a time of RFC 3339, such as 2027-03-31T00:00:00Z"
        ) from None


def check(pod: Workload, parameters: Parameters, context: Context) -> Iterator[Finding | Unknown]:
    scans = context.facts.scans
    if scans is None:
        return
    for pointer, container, image in pod.images:
        if readable(image) is None or matches(parameters.exempt, image):
            continue  # what names no image is no-latest-tag's to tell
        place = _Place(pod, pointer, container, image)
        known = scans.get(image)
        if known is None:
            yield place.missing("is not known to be scanned: it is not looked up here")
        elif _by_tag(pod, image) and not known.error:
            yield place.missing(
                "is named by a tag: what was scanned need not be what runs",
                "name its digest, as pinned-digest does where its mutation is Enabled",
            )
        else:
            yield from _judged(place, known, parameters, context.facts.now)


def to_look_for(pod: Workload, parameters: Parameters) -> dict[str, Reference]:
    """The references whose scans count."""
    return {
        image: reference
        for _, _, image in pod.images
        if (reference := readable(image)) and not matches(parameters.exempt, image)
    }


def lacking(
    pod: Workload, parameters: Parameters, facts: Facts
) -> Iterator[tuple[str, Scans, Platform]]:
    """The platforms of images of which no scan counts, and could be made."""
    for image in to_look_for(pod, parameters):
        scans = (facts.scans or {}).get(image)
        if scans is not None and not scans.error:
            for platform in _judgement(scans, parameters, facts.now).left:
                yield image, scans, platform


def standing(
    pod: Workload, image: str, scans: Scans, parameters: Parameters, now: float
) -> Standing:
    """What `check` makes of an image, for whoever counts them."""
    if _by_tag(pod, image):
        return "missing"
    found = _judgement(scans, parameters, now)
    if found.missing:
        return "missing"
    return "refused" if found.bad or found.ended else "passed"


def _by_tag(pod: Workload, image: str) -> bool:
    return pod.is_pod and "@" not in image


@dataclass(frozen=True, slots=True)
class _Place:
    pod: Workload
    pointer: str
    container: str
    image: str

    def finding(self, detail: str, remedy: str) -> Finding:
        return Finding(self.pointer, f"image {shown(self.image)} {detail}", remedy, self.container)

    def missing(
        self, detail: str, remedy: str = "have it scanned, or try again"
    ) -> Finding | Unknown:
        """Of a template it is told only: its Pods are tried again."""
        if self.pod.is_pod:
            return self.finding(detail, remedy)
        return Unknown(self.pointer, f"image {shown(self.image)} {detail}", self.container)


def _judged(
    place: _Place, scans: Scans, parameters: Parameters, now: float
) -> Iterator[Finding | Unknown]:
    found = _judgement(scans, parameters, now)
    if found.missing:
        yield place.missing(*_missing(scans, found, parameters))
    if found.bad:
        yield place.finding(*_bad(found.bad))
    if found.ended:
        yield place.finding(
            f"is of a distribution that gets no more fixes, says {found.ended[0]}",
            "build it on a release that is maintained",
        )


def _judgement(scans: Scans, parameters: Parameters, now: float) -> Judgement:
    """The same images come again and again, and what was found of them does not change."""
    return _remembered(scans, demands(parameters), float(int(now)))


@lru_cache(maxsize=256)
def demands(parameters: Parameters) -> Demands:
    return Demands(
        max_age=seconds(parameters.max_age),
        database=seconds(parameters.max_database_age),
        fail_on=frozenset(parameters.fail_on),
        ignore_unfixed=parameters.ignore_unfixed,
        vex=parameters.vex,
        grace=seconds(parameters.grace),
        end_of_life=parameters.fail_on_end_of_life,
        allowed=tuple((each.id, instant(each.expires)) for each in parameters.allow),
    )


# Of one second, few enough that what is forgotten elsewhere is not kept here.
_remembered = lru_cache(maxsize=256)(judge)


# --- words --------------------------------------------------------------------------------------


# How each kind of source comes to have a scan.
_WAYS = {
    "ImageScan": "scan it and write an ImageScan, as batten evidence from FILE prints",
    "VulnerabilityReport": "have Trivy Operator scan it",
    "Attestation": "scan it and sign what was found, as cosign attest --type vuln does",
}


def _missing(scans: Scans, found: Judgement, parameters: Parameters) -> tuple[str, str]:
    looked = ", ".join(scans.looked)
    where = f"; looked for {_short(scans.digest)} in {looked}" if looked else ""
    detail = f"has no scan that counts: {'; '.join(_cut(found.missing))}{where}"
    if scans.error:
        return detail, "try again when that is mended"
    waiting = ("wait: it is being scanned",) if parameters.scan_with else ()
    kinds = dict.fromkeys(source.kind for source in parameters.sources)
    return detail, "; or ".join((*waiting, *(_WAYS[kind] for kind in kinds)))


def _bad(bad: tuple[Bad, ...]) -> tuple[str, str]:
    worst = bad[0].vulnerability
    count = "a vulnerability" if len(bad) == 1 else f"{len(bad)} vulnerabilities"
    told = _cut([_vulnerability(each) for each in bad])
    detail = f"has {count} that {'does' if len(bad) == 1 else 'do'} not pass: {', '.join(told)}"
    fixes = dict.fromkeys(
        f"{each.vulnerability.package} {each.vulnerability.fixed_in}".strip()
        for each in bad
        if each.vulnerability.fixed_in
    )
    upgrade = f"upgrade to {', '.join(_cut(list(fixes)))}" if fixes else "take another image"
    return f"{detail}; says {bad[0].origin}", (
        f"{upgrade}; or say in VEX, or in the policy's allow list, why {_plain(worst.id)} does not"
        " matter"
    )


def _vulnerability(bad: Bad) -> str:
    found = bad.vulnerability
    package = f" in {found.package} {found.installed}".rstrip() if found.package else ""
    return f"{found.severity} {found.id}{package}"


def _cut(texts: tuple[str, ...] | list[str]) -> list[str]:
    more = len(texts) - MOST_TOLD
    return [*map(_plain, texts[:MOST_TOLD]), *([f"{more} more"] if more > 0 else [])]


def _plain(text: str) -> str:
    """Users' names and scanners' words are in it: none forges lines or colours a terminal."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= LONGEST_TOLD else f"{text[: LONGEST_TOLD - 1]}…"


def _short(digest: str) -> str:
    """Enough of it to find it by."""
    return digest[: len("sha256:") + 12]


RULE = Rule(
    name="scanned-image",
    level="hardened",
    doc=__doc__,
    check=check,
    actions=WARN,
    parameters=Parameters,
)
