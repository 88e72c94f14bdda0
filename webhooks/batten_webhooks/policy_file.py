"""HardeningPolicies, HardeningExceptions and Namespaces read from files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from batten_webhooks.governance import Exemption, Governance, GoverningPolicy
from batten_webhooks.manifests import Document, Manifest, ManifestError
from batten_webhooks.policy import Policy
from batten_webhooks.resources.exception import read_exception
from batten_webhooks.resources.invalid import Invalid, Location, pointer
from batten_webhooks.resources.model import API_VERSION
from batten_webhooks.resources.policy import read_policy
from batten_webhooks.rules.rule import shown

T = TypeVar("T")


class PolicyError(Exception):
    """Everything that is wrong with the files, each with its place; one a line."""


@dataclass
class Found:
    """What was read of some files. `namespaces` are the labels of each Namespace; `files` are those
    that held anything of this."""

    policies: list[GoverningPolicy] = field(default_factory=list)
    exemptions: list[Exemption] = field(default_factory=list)
    namespaces: dict[str, dict[str, str | None]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)

    def governance(self, default: Policy) -> Governance:
        return Governance(default, self.policies, self.exemptions)


def load(data: bytes, name: str) -> Policy:
    """The one policy in a file of that name, whatever it matches. Raises PolicyError."""
    found = [document for document in _documents(data, name) if document.value is not None]
    if not found:
        raise PolicyError(f"{name}: holds no HardeningPolicy")
    if len(found) > 1:
        raise _error(name, found[1], [((), "a second document: put one policy in a file")])
    value = found[0].value
    kind = value.get("kind") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind.endswith("List"):
        wrong = f"must be HardeningPolicy, not {shown(kind)}: put one policy in a file, by itself"
        raise _error(name, found[0], [(("kind",), wrong)])
    return _read(read_policy, name, found[0], (), value).policy


def load_all(files: Iterable[tuple[str, bytes]]) -> Found:
    """All that governs in these files, by name and content; other objects are passed over.

    Raises PolicyError.
    """
    found = Found()
    for name, data in files:
        for document in _documents(data, name):
            for location, value in _objects(document.value):
                _add(found, name, document, location, value)
    return found


def _add(
    found: Found, name: str, document: Document, location: Location, value: dict[str, Any]
) -> None:
    kind = (value.get("apiVersion"), value.get("kind"))
    if kind == (API_VERSION, "HardeningPolicy"):
        found.policies.append(_read(read_policy, name, document, location, value))
    elif kind == (API_VERSION, "HardeningException"):
        found.exemptions.append(_read(read_exception, name, document, location, value))
    elif kind == ("v1", "Namespace"):
        metadata = value.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("name"), str):
            labels = metadata.get("labels") or {}
            if not isinstance(labels, dict):
                wrong = ((*location, "metadata", "labels"), "must be an object")
                raise _error(name, document, [wrong])
            found.namespaces[metadata["name"]] = labels
    else:
        return
    found.files.add(name)


def _documents(data: bytes, name: str) -> list[Document]:
    try:
        return list(Manifest.parse(data, name=name).documents)
    except ManifestError as error:
        raise PolicyError(f"{name}:{error}") from None


def _objects(value: Any) -> Iterator[tuple[Location, dict[str, Any]]]:
    """The object itself, or those within a List."""
    if not isinstance(value, dict):
        return
    items = value.get("items")
    if isinstance(items, list) and str(value.get("kind")).endswith("List"):
        for index, item in enumerate(items):
            if isinstance(item, dict):
                yield ("items", index), item
    else:
        yield (), value


def _read(
    read: Callable[[Any], T], name: str, document: Document, location: Location, value: Any
) -> T:
    try:
        return read(value)
    except Invalid as error:
        located = [((*location, *at), message) for at, message in error.located]
        raise _error(name, document, located) from None


def _error(name: str, document: Document, found: Iterable[tuple[Location, str]]) -> PolicyError:
    invalid = Invalid(list(found))
    lines = []
    for (location, _), (path, message) in zip(invalid.located, invalid.errors, strict=True):
        at = document.locate(pointer(location))
        lines.append((at.line, at.column, f"{path}: {message}" if path else message))
    return PolicyError(
        "\n".join(f"{name}:{line}:{col}: {text}" for line, col, text in sorted(lines))
    )
