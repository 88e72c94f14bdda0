"""Edits: the fewest splices that make a document read as another value.

Aliases: an anchored node is edited as its own place asks; an alias elsewhere that then no longer
gives what its place asks is replaced by a copy. Merged keys are overridden beside the merge; only
where that cannot work (a merged key is to vanish) does a copy replace the merge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .compose import Limits, build
from .nodes import Alias, Entry, Mapping, Node, Scalar, Sequence, merged, walk
from .patch import EditedList, same
from .scalars import json_value
from .splice import FIRST, NOWHERE, New, Part, Place, Splice, Splicer, last_kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from .render import Style
    from .text import Text

_ABSENT = object()  # equals no value


def splices(text: Text, root: Node, style: Style, old: Any, new: Any) -> list[Splice]:
    """What to change in the text so that `root`, now read as `old`, reads as `new`.

    Raises EditError. Order counts among insertions at one offset.
    """
    editor = _Editor(text, root, style)
    editor.rewrite(root, old, new, Place(after=root.outer, root=True, flow=style.json))
    return editor.splicer.splices


class _Editor:
    def __init__(self, text: Text, root: Node, style: Style) -> None:
        self.splicer = Splicer(text, root, style)
        self._text = text
        self._style = style
        self._anchored: dict[int, Any] = {}  # what anchored nodes, by id, will read as
        self._shared = any(map(_shares, walk(root)))

    def rewrite(self, node: Node, old: Any, new: Any, place: Place) -> None:
        """Make the node read as `new`; nodes come in the text's order, anchors before aliases."""
        if old is new and not self._shared:
            return
        if node.anchor is not None:
            self._anchored[id(node)] = new
        match node, new:
            case Alias(target=target), _:
                if not same(self._anchored.get(id(target), _ABSENT), new):
                    self.splicer.put(node, new, place)
            case Mapping(entries=entries), dict() if entries and new:
                self._mapping(node, old, new, place)
            case Sequence(items=items), list() if items and new:
                self._sequence(node, old, new, place)
            case (Mapping(entries=[]), {}) | (Sequence(items=[]), []):
                if new:
                    self.splicer.put(node, new, place)
            case Scalar(kind=kind, value=value), _ if same(json_value(kind, value), new):
                pass
            case _:
                self.splicer.put(node, new, place)

    def _mapping(self, mapping: Mapping, old: Any, new: dict[str, Any], place: Place) -> None:
        entries = mapping.entries
        json_like = mapping.flow and all(_is_quoted(entry.key) for entry in entries)
        quoted = self._style.json or json_like
        shadowed = _shadowed(mapping, self._read)
        for entry in entries:
            if entry.name in shadowed:
                self._anchored |= {id(node): self._read(node) for node in _anchors(entry.value)}
            elif entry.name in new:
                self._value(mapping, entry, old, new[entry.name], quoted)
        inherited = self._inherited(mapping, new, shadowed)
        if inherited is None:
            for entry in entries:
                if entry.name in new and entry.name in shadowed:
                    self._value(mapping, entry, None, new[entry.name], quoted)
        written = {entry.name for entry in entries}
        added = [
            New(key, value)
            for key, value in new.items()
            if key not in written and not same((inherited or {}).get(key, _ABSENT), value)
        ]
        starts = self.splicer.starts(mapping, [entry.value for entry in entries])
        parts = [
            Part(
                start,
                max(entry.key.end, entry.value.end),
                entry.name in new if entry.name is not None else inherited is not None,
            )
            for start, entry in zip(starts, entries, strict=True)
        ]
        if not any(part.keep for part in parts):
            self.splicer.put(mapping, new, place)
        elif mapping.flow:
            self.splicer.edit_flow(mapping, parts, {last_kept(parts): added}, quoted=quoted)
        else:
            self.splicer.edit_block(entries[-1].value, parts, {last_kept(parts): added}, outer=-1)

    def _value(self, mapping: Mapping, entry: Entry, old: Any, new: Any, quoted: bool) -> None:
        colon = self._text.skip_trivia(entry.key.end)
        place = Place(
            after=colon + 1 if self._text.content.startswith(":", colon) else NOWHERE,
            column=0 if mapping.flow else self._text.column(mapping.start),
            flow=mapping.flow,
            quoted=quoted,
        )
        known = old.get(entry.name) if isinstance(old, dict) else None
        self.rewrite(entry.value, known, new, place)

    def _inherited(
        self, mapping: Mapping, new: dict[str, Any], shadowed: set[str]
    ) -> dict[str, Any] | None:
        """What the merges will give; None when they would give what is not wanted."""
        given: dict[str, Any] = {}
        for entry in mapping.entries:
            for source in merged(entry.value) if entry.name is None else ():
                anchored = source.anchor is not None
                value = self._anchored.get(id(source)) if anchored else self._read(source)
                if not isinstance(value, dict):
                    return None
                given.update(value)
        if all(key in new and (key not in shadowed or same(given[key], new[key])) for key in given):
            return given
        return None

    def _read(self, node: Node) -> Any:
        return build(node, self._text, Limits(self._text))

    def _sequence(self, sequence: Sequence, old: Any, new: list[Any], place: Place) -> None:
        items = sequence.items
        json_like = sequence.flow and all(map(_is_quoted, items))
        quoted = self._style.json or place.quoted or json_like
        column = 0 if sequence.flow else self._text.column(sequence.start)
        starts = self.splicer.starts(sequence, items)
        kept: set[int] = set()
        added: dict[int, list[New]] = {}
        last = FIRST
        for origin, value in zip(_origins(old, new, len(items)), new, strict=True):
            if origin is None:
                added.setdefault(last, []).append(New(None, value))
                continue
            last = origin
            kept.add(origin)
            here = Place(
                after=items[origin].outer if sequence.flow else starts[origin] + 1,
                column=column,
                item=True,
                flow=sequence.flow,
                quoted=quoted,
            )
            known = old[origin] if isinstance(old, list) and origin < len(old) else None
            self.rewrite(items[origin], known, value, here)
        parts = [
            Part(start, max(item.end, start + 1), index in kept)
            for index, (start, item) in enumerate(zip(starts, items, strict=True))
        ]
        if not kept:
            self.splicer.put(sequence, new, place)
        elif sequence.flow:
            self.splicer.edit_flow(sequence, parts, added, quoted=quoted)
        else:
            outer = -1 if place.item or place.root else place.column
            self.splicer.edit_block(items[-1], parts, added, outer=outer)


def _origins(old: Any, new: list[Any], length: int) -> list[int | None]:
    """For each new item, the index of the item it was; indexes ascend."""
    if isinstance(new, EditedList):
        return [origin if origin is None or origin < length else None for origin in new.origins]
    before = old if isinstance(old, list) else []
    shorter = min(length, len(new))
    head = 0
    while head < min(shorter, len(before)) and same(before[head], new[head]):
        head += 1
    tail = 0
    if len(before) == length:
        while tail < shorter - head and same(before[-1 - tail], new[-1 - tail]):
            tail += 1
    middle = len(new) - tail
    return [
        index
        if index < min(middle, length - tail)
        else None
        if index < middle
        else index + length - len(new)
        for index in range(len(new))
    ]


def _shadowed(mapping: Mapping, read: Callable[[Node], Any]) -> set[str]:
    """Keys whose entry a later merge overrules, as go-yaml has it."""
    written: set[str] = set()
    shadowed: set[str] = set()
    for entry in mapping.entries:
        if entry.name is not None:
            written.add(entry.name)
        elif written:
            for source in merged(entry.value):
                shadowed |= written & read(source).keys()
    return shadowed


def _shares(node: Node) -> bool:
    """Whether what the node reads as may change with another place."""
    return isinstance(node, Alias) or (
        isinstance(node, Mapping) and any(entry.name is None for entry in node.entries)
    )


def _anchors(node: Node) -> list[Node]:
    return [inner for inner in walk(node) if inner.anchor is not None]


def _is_quoted(node: Node) -> bool:
    return isinstance(node, Scalar) and node.style == '"'
