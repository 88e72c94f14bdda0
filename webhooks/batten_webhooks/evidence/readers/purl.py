"""Package URLs, as far as VEX names packages and images by them.

https://github.com/package-url/purl-spec: purl-specification.rst and purl-types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

from batten_webhooks.evidence.readers.common import digests, text

LONGEST = 2_000
_IMAGES = frozenset(("oci", "docker"))
# Of these the namespace is the distribution, which scanners leave out of the package's name.
_DISTRIBUTIONS = frozenset(("alpm", "apk", "deb", "rpm"))


@dataclass(frozen=True, slots=True)
class PackageURL:
    """`package` is the name that scanners use, "" for an image."""

    package: str
    version: str


class Target(NamedTuple):
    """What VEX speaks of: images by digest or whatever the document is bound to, and in them all
    packages, one, or one version of it."""

    products: frozenset[str]
    package: str
    installed: str


WHOLE = Target(frozenset(), "", "")


def target(name: str) -> Target:
    """By a package URL or an image's name. Another name is taken as a package's, which none has:
    what is unknown must not become the whole image."""
    url = package_url(name)
    if url is None:
        products = digests([name])
        return Target(products, "" if products else text(name), "")
    if url.package:
        return Target(frozenset(), text(url.package), text(url.version))
    return Target(digests([url.version]), "", "")


def package_url(name: str) -> PackageURL | None:
    """None for what is no package URL."""
    kind, _, path = name[:LONGEST].partition("#")[0].partition("?")[0].partition("/")
    kind = kind.lower()
    if not kind.startswith("pkg:") or not path or len(name) > LONGEST:
        return None
    kind, path, version = kind.removeprefix("pkg:"), path.strip("/"), ""
    # In a name `@` is written %40, but not by all.
    head, _, tail = path.rpartition("@")
    if head and "/" not in tail:
        path, version = head, unquote(tail)
    namespace, _, package = (unquote(part) for part in path.rpartition("/"))
    if kind in _IMAGES:
        return PackageURL("", version)
    if not package:
        return None
    if kind == "maven":
        package = f"{namespace}:{package}"
    elif namespace and kind not in _DISTRIBUTIONS:
        package = f"{namespace}/{package}"
    return PackageURL(package, version)
