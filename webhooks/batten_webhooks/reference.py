"""Image references, read as the kubelet reads them: the grammar of distribution/reference v0.6.

    reference  := [registry "/"] repository [":" tag] ["@" digest]

The first part is a registry only if it holds a dot, a colon or a capital, or is `localhost`;
without one the registry is docker.io, where a name of one part stands below `library/`. Stricter in
one thing: a registry that is no host name (`my_registry.example/app`) is refused, not ignored. See
https://github.com/distribution/reference and https://github.com/opencontainers/go-digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_REGISTRY = "docker.io"
# docker.io's own older name.
LEGACY_REGISTRY = "index.docker.io"
LONGEST_REPOSITORY = 255
# The hexadecimal digits of each digest algorithm that go-digest knows.
DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(
    rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII
)
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REMAINDER = re.compile(
    rf"(?P<repository>{_PATH_PART}(?:/{_PATH_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<algorithm>[a-z0-9+._-]+):(?P<hex>[a-f0-9]+))?",
    re.ASCII,
)
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")


class InvalidReference(ValueError):
    """The text names no image; the message completes "image X: …"."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`registry` is a host with its port, if any; `tag` and `digest` are "" where not given."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The registry and the repository: what tags and digests are looked up in."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def parse_reference(text: str) -> Reference:
    """The image that `text` names, with the defaults filled in. Raises InvalidReference."""
    if _IMAGE_ID.fullmatch(text):
        raise InvalidReference("is an image ID, which no registry can look up")
    registry, remainder = split_registry(text)
    found = _REMAINDER.fullmatch(remainder)
    if found is None or not _REGISTRY.fullmatch(registry):
        raise InvalidReference(_complaint(text, remainder))
    repository, tag, algorithm, digits = found.groups()
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if len(repository) > LONGEST_REPOSITORY:
        raise InvalidReference(f"has a repository of more than {LONGEST_REPOSITORY} characters")
    digest = ""
    if algorithm:
        if DIGEST_LENGTHS.get(algorithm) != len(digits):
            raise InvalidReference("has a digest that is neither sha256, sha384 nor sha512")
        digest = f"{algorithm}:{digits}"
    return Reference(registry, repository, tag or "", digest)


def split_registry(text: str) -> tuple[str, str]:
    """The registry, which may be the default one, and what follows it."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return (DEFAULT_REGISTRY if first == LEGACY_REGISTRY else first), rest
    return DEFAULT_REGISTRY, text


def _complaint(text: str, remainder: str) -> str:
    if not text.strip():
        return "is empty"
    if any(character.isspace() for character in text):
        return "has whitespace in it"
    if _REMAINDER.fullmatch(remainder.lower()):
        return "has capitals where only small letters are allowed"
    return "is not of the form [registry/]repository[:tag][@digest]"
