"""What the readers of YAML and JSON share: limits, keys, and values made from nodes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .nodes import Entry, Mapping, Node, Scalar, Sequence, merged, resolved
from .scalars import json_value, key_text
from .text import ManifestError, Position

if TYPE_CHECKING:
    from .text import Text

DEEPEST = 100  # levels; Python recurses over values, and real manifests stay under 40
MOST_NODES = 1_000_000  # aliases expanded
_MERGE_TAG = "tag:yaml.org,2002:merge"
_TEMPLATE = re.compile(
    r"\{\{-?\s*(?:/\*|[.$](?:Values|Release|Chart|Capabilities|Files|Template)\b"
    r"|(?:if|else|end|range|with|include|template|define|block|toYaml|tpl|required|default)\b)"
)


class LimitError(ManifestError):
    """A document too deep or too large to handle, in whichever syntax."""

    def __init__(self, place: Position, message: str) -> None:
        super().__init__(place.line, place.column, message)


class Limits:
    """Raises LimitError."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._count = 0

    def admit(self, offset: int, depth: int = 0) -> None:
        """Count one node, `depth` levels down."""
        self._count += 1
        if depth > DEEPEST:
            raise LimitError(self._text.position(offset), f"nested deeper than {DEEPEST} levels")
        if self._count > MOST_NODES:
            raise LimitError(
                self._text.position(offset),
                f"more than {MOST_NODES:,} values with all aliases expanded: split the file",
            )


def add_entry(text: Text, mapping: Mapping, seen: dict[str, Node], key: Node, value: Node) -> None:
    """Append the entry; ManifestError when the key is no scalar or `seen` before."""
    name = None if _is_merge(key) else _name(text, key)
    if name is None:
        _check_merge(text, value)
    elif name in seen:
        line = text.position(seen[name].outer).line
        raise text.error(
            key.outer, f'duplicate key "{name[:80]}", first on line {line}: remove one of the two'
        )
    else:
        seen[name] = key
    mapping.entries.append(Entry(key=key, value=value, name=name))


def _is_merge(key: Node) -> bool:
    return (
        isinstance(key, Scalar)
        and key.value == "<<"
        and ((not key.style and key.tag in (None, "!")) or key.tag == _MERGE_TAG)
    )


def _check_merge(text: Text, value: Node) -> None:
    if not all(isinstance(source, Mapping) for source in merged(value)):
        raise text.error(value.outer, "a merge (`<<`) takes a mapping or a list of mappings")


def _name(text: Text, key: Node) -> str:
    scalar = resolved(key)
    if isinstance(scalar, Scalar):
        try:
            return key_text(scalar.kind, scalar.value)
        except ValueError as error:
            raise text.error(key.outer, str(error)) from None
    if key.outer and text.content.startswith("{{", key.outer - 1):
        raise template_error(text, key.outer - 1)
    raise text.error(key.outer, "a mapping's key must be a string, not a list or mapping")


def template_error(text: Text, offset: int) -> ManifestError:
    """The error for text that a template engine has still to render."""
    return text.error(
        offset, "looks like a Helm template: render it first, e.g. `helm template . | batten …`"
    )


def find_template(text: Text, line: int) -> int:
    """Where Helm syntax stands: anywhere by its words, or any `{{` on the line; -1 if nowhere."""
    for match in _TEMPLATE.finditer(text.content):
        if "#" not in text.before(match.start()):
            return match.start()
    column = text.line(line).find("{{")
    return -1 if column < 0 else text.offset(line) + column


def build(node: Node, text: Text, limits: Limits, depth: int = 0) -> Any:
    """The JSON value kubectl makes of a node: aliases copied, merges applied in go-yaml's order.

    go-yaml v2 lets a merge overrule the keys written before it (YAML 1.1 does not).
    """
    node = resolved(node)
    limits.admit(node.outer, depth)
    match node:
        case Scalar(kind=kind, value=value):
            try:
                return json_value(kind, value)
            except ValueError as error:
                raise text.error(node.start, str(error)) from None
        case Sequence(items=items):
            return [build(item, text, limits, depth + 1) for item in items]
        case Mapping(entries=entries):
            result: dict[str, Any] = {}
            for entry in entries:
                if entry.name is None:
                    for source in merged(entry.value):
                        result.update(build(source, text, limits, depth + 1))
                else:
                    result[entry.name] = build(entry.value, text, limits, depth + 1)
            return result
    raise TypeError(node)
