"""OpenVEX, v0.2.0 and v0.0.1.

https://github.com/openvex/spec/blob/main/OPENVEX-SPEC.md. Nothing is taken for more than its author
named: a product without a digest is whatever the document is bound to, and a subcomponent that is
no package's name matches none.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import field

from batten_webhooks.evidence.model import Statement, Unreadable, Vex
from batten_webhooks.evidence.readers.common import (
    LONGEST_SENTENCE,
    STATUSES,
    Encoded,
    Reader,
    Shape,
    decode,
    digests,
    few,
    identifier,
    moment,
    text,
)
from batten_webhooks.evidence.readers.purl import WHOLE, Target, package_url

FORMAT = "OpenVEX"
KIND = "https://openvex.dev/ns"
MOST_NAMES = 20


class Hashes(Shape):
    sha256: str = field(name="sha-256", default="")
    sha512: str = field(name="sha-512", default="")


class Identifiers(Shape):
    purl: str = ""


class Component(Shape):
    id: str = field(name="@id", default="")
    identifiers: Identifiers | None = None
    hashes: Hashes | None = None


class Product(Component):
    subcomponents: list[Component | str] | None = None


class Vulnerability(Shape):
    id: str = field(name="@id", default="")
    name: str = ""
    aliases: list[str] | None = None


class Said(Shape):
    """v0.0.1 has names where later versions have objects, and subcomponents beside products."""

    vulnerability: Vulnerability | str
    status: str
    products: list[Product | str] | None = None
    subcomponents: list[Component | str] | None = None
    timestamp: str | None = None
    last_updated: str | None = None
    justification: str = ""
    impact_statement: str = ""


class Written(Shape):
    statements: list[Said]
    context: str = field(name="@context", default="")
    timestamp: str | None = None


def read(data: Encoded) -> Vex:
    document = decode(data, Written, FORMAT)
    if not document.context.startswith(KIND):
        raise Unreadable(f"is no OpenVEX: its @context is {text(document.context, 50)!r}")
    return Vex(tuple(few(_statements(document))))


def _statements(document: Written) -> Iterator[Statement]:
    written = moment(document.timestamp)
    for said in document.statements:
        status, names = said.status, _names(said.vulnerability)
        if status not in STATUSES:
            raise Unreadable(f"has a statement with the status {text(status, 50)!r}")
        time = moment(said.timestamp) or moment(said.last_updated) or written
        why = text(said.justification or said.impact_statement, LONGEST_SENTENCE)
        for products, package, installed in _targets(said) if names else ():
            yield Statement(names, status, time, products, package, installed, why)


def _names(named: Vulnerability | str) -> frozenset[str]:
    if isinstance(named, str):
        names = [named]
    else:
        names = [named.name or named.id, *(named.aliases or ())[:MOST_NAMES]]
    return frozenset(identifier(name) for name in names if name)


def _targets(said: Said) -> Iterator[Target]:
    for product in said.products or ():
        whole = _product(product)
        inner = () if isinstance(product, str) else product.subcomponents
        parts = inner or said.subcomponents
        if not parts:
            yield whole
        for part in parts or ():
            yield _part(whole, part)
    if not said.products:
        yield from (_part(WHOLE, part) for part in said.subcomponents or ())
        if not said.subcomponents:
            yield WHOLE


def _product(product: Component | str) -> Target:
    """An image, or a package of the image that the document is bound to."""
    named, products = _named(product)
    urls = [url for name in named if (url := package_url(name))]
    products |= digests(url.version for url in urls if not url.package)
    package = next((url for url in urls if url.package), None)
    if package is None:
        return Target(products | digests(named), "", "")
    return Target(products, text(package.package), text(package.version))


def _part(whole: Target, part: Component | str) -> Target:
    """A subcomponent, always limited to a package."""
    named, _ = _named(part)
    urls = [url for name in named if (url := package_url(name)) and url.package]
    if urls:
        return Target(whole.products, text(urls[0].package), text(urls[0].version))
    return Target(whole.products, text(named[0] if named else "") or "unnamed", "")


def _named(component: Component | str) -> tuple[list[str], frozenset[str]]:
    """Its names, and the digests that stand beside them."""
    if isinstance(component, str):
        return [component], frozenset()
    hashes, other = component.hashes or Hashes(), component.identifiers or Identifiers()
    beside = (f"sha256:{hashes.sha256}", f"sha512:{hashes.sha512}")
    return [name for name in (component.id, other.purl) if name], digests(beside)


READER = Reader(FORMAT, frozenset(("@context", "statements")), read)
