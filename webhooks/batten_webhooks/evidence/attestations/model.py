"""What attestations are, before and after their signatures were checked. Plain data."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from batten_webhooks.messages import printable

Reason = Literal[
    "foreign",  # of another image
    "forged",  # signed by none of those who are trusted
    "unreadable",  # no DSSE envelope of an in-toto statement
    "unsigned",
    "unsupported",  # signed in a way that cannot be checked here
]


class Rejected(Exception):
    """An attestation that does not count; the message completes "attestation sha256:abcd… …"."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Trust(Struct, frozen=True):
    """Whose signatures count: of any of `keys`, public ones in PEM, or of a certificate that was
    given to `identity` by `issuer`, both exactly as Fulcio writes them."""

    keys: tuple[str, ...] = ()
    issuer: str = ""
    identity: str = ""


class Candidate(Struct, frozen=True, eq=False):
    """What may be an attestation. `digest` is of `data`; it was found beside `subject`, the digest
    of an index or of a manifest."""

    digest: str
    subject: str
    data: bytes


class Attached(Struct, frozen=True):
    """`told` are sentences on what could not be read, or is too much of it; with `failed` it is to
    be asked again soon."""

    candidates: tuple[Candidate, ...]
    told: tuple[str, ...] = ()
    failed: bool = False


class Verified(Struct, frozen=True, eq=False):
    """A statement that is signed as it should be: `kind` is its predicateType, `subjects` are the
    digests that it is about. `digest` is the attestation's own."""

    kind: str
    predicate: Any
    subjects: frozenset[str]
    digest: str = ""


class Found(Struct, frozen=True):
    """All that counts for one image, and in whole sentences why the rest does not."""

    verified: tuple[Verified, ...]
    rejected: tuple[Rejected, ...] = ()
    told: tuple[str, ...] = ()


def short(digest: str) -> str:
    """Enough of a digest to tell it from others."""
    return printable(digest[:19]) + "…"
