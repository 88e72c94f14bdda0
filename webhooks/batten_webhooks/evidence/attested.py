"""What attestations whose signatures were checked say of vulnerabilities. Pure: nobody is asked."""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.evidence.attestations import model
from batten_webhooks.evidence.model import NotEvidence, Unreadable
from batten_webhooks.evidence.readers import read_predicate
from batten_webhooks.evidence.scans import Flaw, Found, Rejected
from batten_webhooks.messages import printable

_FLAWS: dict[model.Reason, Flaw] = {
    "foreign": "foreign",
    "forged": "forged",
    "unreadable": "unreadable",
    "unsigned": "forged",
    "unsupported": "unreadable",
}


def outcomes(found: model.Found) -> list[Found | Rejected]:
    """What is no evidence, such as an SBOM or a provenance, is passed over.

    Reads predicates of megabytes: not for an event loop, and its result is worth to be kept.
    """
    return [*_read(found), *map(_rejected, found.rejected), *map(_unread, found.told)]


def _read(found: model.Found) -> Iterator[Found | Rejected]:
    for each in found.verified:
        origin = f"attestation {printable(each.kind)[:200]}"
        try:
            yield Found(origin, read_predicate(each.kind, each.predicate, each.subjects))
        except NotEvidence:
            continue
        except Unreadable as error:
            yield Rejected(origin, "unreadable", str(error))


def _rejected(each: model.Rejected) -> Rejected:
    """Its message begins with the digest of the attestation."""
    digest, _, why = str(each).partition(" ")
    return Rejected(f"attestation {digest}", _FLAWS[each.reason], why)


def _unread(told: str) -> Rejected:
    return Rejected("what is beside the image", "unavailable", f"was not read whole: {told}")
