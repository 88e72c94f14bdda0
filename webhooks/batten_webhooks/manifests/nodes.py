"""The nodes of a document: what stands where in the text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True, eq=False, kw_only=True)
class Node:
    """A value in the text: `outer` ≤ `start` ≤ `end` are offsets.

    `outer` includes anchor and tag; `end` excludes trailing blanks, comments and, for block
    scalars and collections, the last line's break. It is -1 while the node is being read.
    """

    outer: int
    start: int
    end: int = -1
    anchor: str | None = None
    tag: str | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class Scalar(Node):
    """`style` is the opening indicator: a quote, `|` or `>`; empty for a plain scalar."""

    style: str = ""
    kind: str
    value: Any


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """A mapping's key and value; `name` is the key's string, None for a merge (`<<`)."""

    key: Node
    value: Node
    name: str | None


@dataclass(slots=True, eq=False, kw_only=True)
class Mapping(Node):
    """Entries in the text's order."""

    flow: bool
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence(Node):
    """Items in order."""

    flow: bool
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False, kw_only=True)
class Alias(Node):
    """`*name`: the anchored node once more."""

    target: Node


def resolved(node: Node) -> Node:
    """The node, or the one an alias stands for."""
    return node.target if isinstance(node, Alias) else node


def merged(value: Node) -> list[Node]:
    """What a merge key's value names, each a mapping; where they share a key, the last wins."""
    sources = reversed(value.items) if isinstance(value, Sequence) else [value]
    return [resolved(source) for source in sources]


def walk(node: Node) -> Iterator[Node]:
    """The node and everything written inside it, aliases not followed."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        match current:
            case Mapping(entries=entries):
                for entry in entries:
                    pending += (entry.key, entry.value)
            case Sequence(items=items):
                pending += items
