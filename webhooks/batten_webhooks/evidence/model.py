"""What is known of the vulnerabilities of an image. Plain data; times are in Unix seconds, 0 where
nothing is said of them.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

# From the worst on; scanners' other words are UNKNOWN.
Severity = Literal["CRITICAL", "HIGH", "MEDIUM", "LOW", "NEGLIGIBLE", "UNKNOWN"]
# `wont-fix` is a distribution's decision, `not-fixed` may change.
Fix = Literal["fixed", "not-fixed", "wont-fix", "unknown"]
# OpenVEX's words (https://github.com/openvex/spec, Status Labels).
Status = Literal["not_affected", "affected", "fixed", "under_investigation"]

# A document of more than so many bytes, and one with more vulnerabilities, counts for nothing.
MOST_BYTES = 10 * 2**20
MOST_VULNERABILITIES = 20_000


class Unreadable(ValueError):
    """A document that is no evidence; the message completes "DOCUMENT …"."""


class NotEvidence(Unreadable):
    """A document of a kind that says nothing of vulnerabilities, such as an SBOM."""


class Vulnerability(Struct, frozen=True):
    """One that a scanner found in one package. `fixed_in` are versions as the scanner writes them,
    "" for none; `published` is when it became known; `aliases` are its other names."""

    id: str
    severity: Severity
    package: str = ""
    installed: str = ""
    fixed_in: str = ""
    fix: Fix = "unknown"
    published: float = 0.0
    aliases: tuple[str, ...] = ()


class Statement(Struct, frozen=True):
    """Of a VEX document: what is true of vulnerabilities, by all of their names, in `products`.

    `products` are digests; none means whatever image the document is bound to. `package` limits it
    to one package, by name, and `installed` to one version of it; "" is all of them.
    """

    names: frozenset[str]
    status: Status
    time: float = 0.0
    products: frozenset[str] = frozenset()
    package: str = ""
    installed: str = ""
    justification: str = ""


class ScanEvidence(Struct, frozen=True, eq=False):
    """One scan of one image. `digests` are those that the scanner names, of the index, of one
    platform's manifest or of its configuration. `database` is when the scanner's knowledge was
    made. `statements` came with the scan."""

    digests: frozenset[str]
    scanner: str
    version: str = ""
    scanned: float = 0.0
    database: float = 0.0
    vulnerabilities: tuple[Vulnerability, ...] = ()
    statements: tuple[Statement, ...] = ()
    end_of_life: bool = False


class Vex(Struct, frozen=True, eq=False):
    """A VEX document by itself. `digests` are those that it is bound to, as an attestation is."""

    statements: tuple[Statement, ...]
    digests: frozenset[str] = frozenset()


Document = ScanEvidence | Vex
