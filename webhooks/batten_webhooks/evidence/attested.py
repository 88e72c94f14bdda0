"""What attestations whose signatures were checked say of vulnerabilities. Pure: nobody is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from batten_webhooks.evidence.attestations import model
from batten_webhooks.evidence.model import NotEvidence, Unreadable
from batten_webhooks.evidence.readers import read_predicate
from batten_webhooks.evidence.scans import Flaw, Found, Rejected
from batten_webhooks.rules.scanned_image import Source

_FLAWS: dict[model.Reason, Flaw] = {
    "foreign": "foreign",
    "forged": "forged",
    "unreadable": "unreadable",
    "unsigned": "forged",
    "unsupported": "unreadable",
}


def trusts(sources: Iterable[Source]) -> tuple[model.Trust, ...]:
    """Whose signatures the sources believe: all of their keys at once, and each identity."""
    attested = [each for each in sources if each.kind == "Attestation"]
    keys = tuple(dict.fromkeys(key for each in attested for key in each.keys))
    named = dict.fromkeys((each.issuer, each.identity) for each in attested if each.identity)
    (issuer, identity), *others = named or [("", "")]
    if not (keys or identity):
        return ()
    return (
        model.Trust(keys, issuer, identity),
        *(model.Trust((), issuer, identity) for issuer, identity in others),
    )


def outcomes(*found: model.Found) -> list[Found | Rejected]:
    """Of one image, by each of those who are trusted: what one of them vouches for counts.

    What is no evidence, such as an SBOM or a provenance, is passed over. Reads predicates of
    megabytes: not for an event loop, and what comes of it is worth keeping.
    """
    read = {each.digest: each for one in found for each in one.verified}
    known = {_origin(digest) for digest in read}
    rejected = [_rejected(each) for one in found for each in one.rejected]
    told = (_unread(each) for one in found for each in one.told)
    left = [each for each in (*rejected, *told) if each.origin not in known]
    return [*_read(read.values()), *dict.fromkeys(left)]


def _read(verified: Iterable[model.Verified]) -> Iterator[Found | Rejected]:
    for each in verified:
        origin = _origin(each.digest)
        try:
            yield Found(origin, read_predicate(each.kind, each.predicate, each.subjects))
        except NotEvidence:
            continue
        except Unreadable as error:
            yield Rejected(origin, "unreadable", str(error))


def _origin(digest: str) -> str:
    return f"attestation {model.short(digest)}"


def _rejected(each: model.Rejected) -> Rejected:
    """Its message is "attestation sha256:abcd… …"."""
    what, digest, why = str(each).split(" ", 2)
    return Rejected(f"{what} {digest}", _FLAWS[each.reason], why)


def _unread(told: str) -> Rejected:
    return Rejected("what is beside the image", "unavailable", f"was not read whole: {told}")
