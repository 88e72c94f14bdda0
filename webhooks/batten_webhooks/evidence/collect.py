"""What was found of an image, from every source that a policy names. Pure: nobody is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from batten_webhooks.evidence.model import ScanEvidence
from batten_webhooks.evidence.scans import Found, Platform, Rejected, Scans
from batten_webhooks.images.content import PlatformImage
from batten_webhooks.messages import printable
from batten_webhooks.rules.scanned_image import Source


class Stored(Struct, frozen=True, eq=False):
    """A scan that an object of the cluster holds. `namespace` is "" for the cluster's own objects;
    `author` is who wrote it, "" where nobody knows."""

    kind: str
    name: str
    namespace: str
    author: str
    evidence: ScanEvidence

    @property
    def origin(self) -> str:
        return f'{self.kind} "{"/".join(filter(None, (self.namespace, self.name)))}"'


Outcome = Found | Rejected


def collect(
    digest: str,
    platforms: Sequence[PlatformImage],
    sources: Iterable[Source],
    stored: Iterable[Stored],
    attested: Iterable[Outcome] = (),
) -> Scans:
    """`stored` are those of any digest of the image; `attested` what its registry has beside it."""
    sources = tuple(sources)
    outcomes = [*attested, *_of_cluster(sources, tuple(stored))]
    return Scans(
        digest=digest,
        platforms=named(platforms),
        found=tuple(each for each in outcomes if isinstance(each, Found)),
        rejected=tuple(each for each in outcomes if isinstance(each, Rejected)),
        looked=tuple(dict.fromkeys(source.shown for source in sources)),
    )


def named(platforms: Iterable[PlatformImage]) -> tuple[Platform, ...]:
    """As evidence names them."""
    return tuple(
        Platform(str(each.platform), each.digest, each.configuration_digest) for each in platforms
    )


def _of_cluster(sources: Sequence[Source], stored: Iterable[Stored]) -> Iterator[Outcome]:
    """One that any source trusts counts; of the others why not is told."""
    for each in stored:
        doubts = _doubts(each, sources)
        if "" in doubts:
            yield Found(each.origin, each.evidence)
        elif doubts:
            yield Rejected(each.origin, "forged", doubts[0])


def trusted(stored: Stored, sources: Iterable[Source]) -> bool:
    """By any of the sources."""
    return "" in _doubts(stored, sources)


def _doubts(stored: Stored, sources: Iterable[Source]) -> list[str]:
    kind = "ImageScan" if stored.kind == "ImageScan" else "VulnerabilityReport"
    return [_doubt(stored, source) for source in sources if source.kind == kind]


def _doubt(stored: Stored, source: Source) -> str:
    """Why the source does not trust it, "" where it does."""
    if source.namespaces and stored.namespace not in source.namespaces:
        return (
            f"is of no Namespace that the policy trusts ({', '.join(source.namespaces)}):"
            " whoever may write there could forge it"
        )
    if source.users and stored.author not in source.users:
        if not stored.author:
            return "is older than what notes who writes such: have it written again"
        return f"was written by {printable(stored.author)}, whom the policy does not trust"
    return ""
