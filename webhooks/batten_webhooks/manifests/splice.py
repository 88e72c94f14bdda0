"""Splices: the text that changes where entries come and go.

Every line that need not change stays, byte for byte. Comments:

- A comment on a line stays with that line; it goes only when the line's own entry is removed.
- Comment lines directly below a collection's last line (no blank line between) belong to the
  collection if indented at least as far as its entries: a new last entry stands after them. Below
  a list whose dashes stand at its key's column, they must be deeper: at the column itself they
  belong to the next key.
- Between list items, comment lines at the dash's column belong to the item below, deeper ones to
  the item above.
- Comment lines above a removed entry stay: a human wrote them, and may mean what follows. Those
  inside a collection that becomes empty, or is replaced as a whole, go with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .nodes import Mapping, Node, Scalar, Sequence, walk
from .render import Style, block, block_entry, block_item, flow_key, is_nested, pretty
from .scalars import write_scalar

if TYPE_CHECKING:
    from .text import Text

_COMMENT_LINE = re.compile(r"[ \t]*#")
_COMMENT_LINE_WITHIN = re.compile(r"[\r\n][ \t]*#")
_BLOCK_HEADER = re.compile(r"([|>])([0-9]?)[+-]?([0-9]?)")
FIRST = -1  # the index of what comes before the first part
NOWHERE = -1  # the offset of a colon that is not there


class EditError(Exception):
    """The text is written in a way that cannot be edited piece by piece."""


@dataclass(frozen=True, slots=True)
class Splice:
    """`text` in place of what stands from `start` to `end`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: `after` its colon or dash, in a collection at `column`."""

    after: int
    column: int = 0
    item: bool = False
    root: bool = False
    flow: bool = False
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class _Site:
    """What a new value replaces: from `begin` to `end`, or nothing, after `attach`.

    `anchor` is to be written again; one that is `anchored` otherwise stands before `attach`.
    `beneath`: a block collection on the lines below its key.
    """

    attach: int
    begin: int
    end: int
    anchor: str
    anchored: bool
    beneath: bool


@dataclass(frozen=True, slots=True)
class Part:
    """An entry or item with its key, `?` or dash."""

    start: int
    end: int
    keep: bool


@dataclass(frozen=True, slots=True)
class New:
    """An entry to add, or an item, which has no key."""

    key: str | None
    value: Any


def spliced(content: str, changes: list[Splice]) -> str:
    """The content with the changes made. Raises EditError when they overlap."""
    pieces: list[str] = []
    at = 0
    for change in sorted(changes, key=lambda change: (change.start, change.end)):
        if change.start < at:
            raise EditError
        pieces += (content[at : change.start], change.text)
        at = change.end
    return "".join((*pieces, content[at:]))


def last_kept(parts: list[Part]) -> int:
    """The index of the last part that stays, FIRST if none does."""
    return max((index for index, part in enumerate(parts) if part.keep), default=FIRST)


class Splicer:
    """Collects a document's splices; order counts among insertions at one offset."""

    def __init__(self, text: Text, root: Node, style: Style) -> None:
        self.splices: list[Splice] = []
        self._text = text
        self._content = text.content
        self._style = style
        self._block_scalar_ends = {
            node.end for node in walk(root) if isinstance(node, Scalar) and node.style in ("|", ">")
        }

    def _splice(self, start: int, end: int, text: str) -> None:
        if start < end or text:
            self.splices.append(Splice(start, end, text))

    def starts(self, node: Node, values: list[Node]) -> list[int]:
        """Where each entry begins, with its key, `?` or dash."""
        inner = node.start
        flow = isinstance(node, Mapping | Sequence) and node.flow
        if flow and self._content[inner] in "{[":
            inner = self._text.skip_trivia(inner + 1)
        starts = [inner]
        for value in values[:-1]:
            after = self._text.skip_trivia(value.end)
            starts.append(self._text.skip_trivia(after + 1) if flow else after)
        return starts

    # Block collections

    def edit_block(
        self, last: Node, parts: list[Part], added: dict[int, list[New]], outer: int
    ) -> None:
        """Edit a block collection whose last value is `last`, inside one at column `outer`."""
        column = self._text.column(parts[0].start)
        indent = " " * column
        for index, entries in added.items():
            lines = [indent + line for entry in entries for line in self._block_lines(entry, parts)]
            if index == FIRST:
                self._insert_first(parts[0].start, column, lines)
            else:
                at = self._end_of_part(
                    parts[index].end,
                    column if index == len(parts) - 1 and column > outer else column + 1,
                )
                self._insert_lines(at, lines, last)
        first = next(index for index, part in enumerate(parts) if part.keep)
        if first and self._moves_up(parts[:first], parts[first]):
            self._splice(parts[0].start, parts[first].start, "")
            parts = parts[first:]
        top = self._text.line_start(parts[0].start) == 0
        for part in parts:
            top = top and not part.keep
            if not part.keep:
                self._remove_lines(part, top)

    def _moves_up(self, removed: list[Part], heir: Part) -> bool:
        """Whether the entry takes the place of removed ones behind an outer dash."""
        behind = self._text.before(removed[0].start).strip()
        comments = _COMMENT_LINE_WITHIN.search(self._content, removed[0].end, heir.start)
        return bool(behind) and not comments

    def _block_lines(self, new: New, parts: list[Part]) -> list[str]:
        if new.key is not None:
            return block_entry(new.key, new.value, self._style)
        first = self._content[parts[0].start + 1 : parts[0].end]
        blanks = len(first) - len(first.lstrip(" "))
        return block_item(new.value, self._style, gap=max(blanks, 1))

    def _end_of_part(self, end: int, column: int) -> int:
        """The end of the line, or of the comment lines below it from `column` on."""
        at = self._text.line_end(end)
        while at < len(self._content):
            start = self._text.next_line(at)
            line = self._text.after(start)
            if not _COMMENT_LINE.match(line) or len(line) - len(line.lstrip(" \t")) < column:
                break
            at = self._text.line_end(start)
        return at

    def _insert_lines(self, at: int, lines: list[str], last: Node) -> None:
        """Insert below the line that ends at `at`."""
        if not lines:
            return
        line_break = self._text.line_break(at)
        self._splice(at, at, "".join(line_break + line for line in lines))
        if at == len(self._content):
            self._keep_unbroken(last)

    def _keep_unbroken(self, last: Node) -> None:
        """A block scalar that the file's end left without its line break shall not get one."""
        while isinstance(last, Mapping | Sequence) and not last.flow:
            last = last.entries[-1].value if isinstance(last, Mapping) else last.items[-1]
        header = _BLOCK_HEADER.match(self._content, last.start)
        ends = isinstance(last, Scalar) and last.end == len(self._content)
        stays = all(change.end <= last.start for change in self.splices if change.start < last.end)
        if ends and stays and header:
            self._splice(header.start(), header.end(), "".join(header.groups()) + "-")

    def _insert_first(self, start: int, column: int, lines: list[str]) -> None:
        """Insert above the first item and the comment lines that belong to it."""
        line_break = self._text.line_break(start)
        if self._text.before(start).strip():  # the dash of an outer item is on the line
            text = "".join(line + line_break for line in lines) + " " * column
            self._splice(start, start, text.removeprefix(" " * column))
            return
        at = self._text.break_before(start)
        while at and _COMMENT_LINE.match(self._text.before(at)):
            if self._text.indentation(at) != " " * column:
                break
            at = self._text.break_before(at)
        if at:
            self._splice(at, at, "".join(line_break + line for line in lines))
        else:
            self._splice(0, 0, "".join(line + line_break for line in lines))

    def _remove_lines(self, part: Part, top: bool) -> None:
        """Remove the part's lines with the break before them, at the file's `top` after them."""
        start, end = self._text.line_start(part.start), self._text.line_end(part.end)
        before = self._text.before(part.start).rstrip()
        above = self._text.break_before(start)
        if before:  # an outer dash stays
            self._splice(start + len(before), end, "")
        elif top:
            self._splice(start, self._text.next_line(end), "")
        elif end == len(self._content) and above in self._block_scalar_ends:
            self._splice(start, end, "")  # that break is the scalar's
        else:
            self._splice(above, end, "")

    # Flow collections

    def edit_flow(
        self, node: Node, parts: list[Part], added: dict[int, list[New]], quoted: bool
    ) -> None:
        if not any(added.values()) and all(part.keep for part in parts):
            return
        if self._content[node.start] not in "{[":
            raise EditError  # the one entry of `[key: value]`
        first, last = parts[0].start, last_kept(parts)
        blank = not self._text.before(first).strip()
        own_lines = blank and node.start < self._text.line_start(first)
        indent = self._text.indentation(first if own_lines else node.start)
        gap = self._text.line_break(first) + indent if own_lines else self._gap(parts)
        tail = parts[last + 1 :]
        for index, entries in added.items():
            texts = [self._flow_text(entry, indent, quoted) for entry in entries]
            if index == last and tail and texts:
                self._splice(tail[0].start, tail[-1].end, ("," + gap).join(texts))
                tail = []
            elif index == FIRST:
                self._splice(first, first, "".join(f"{text},{gap}" for text in texts))
            elif texts:
                self._insert_flow(parts[index].end, texts, gap, own_lines)
        for part, heir in pairwise(parts[: last + 1]):
            if not part.keep:
                self._splice(part.start, heir.start, "")
        if tail:
            comma = self._text.skip_trivia(parts[last].end)
            self._splice(comma, comma + 1, "")
            between = self._content[comma + 1 : tail[0].start].rstrip()
            self._splice(comma + 1 + len(between), tail[-1].end, "")

    def _gap(self, parts: list[Part]) -> str:
        """What follows a comma on one line."""
        if len(parts) > 1:
            between = self._content[parts[0].end : parts[1].start]
            if between.strip() == "," and between.isprintable():
                return between.partition(",")[2]
        return self._style.comma[1:]

    def _flow_text(self, new: New, indent: str, quoted: bool) -> str:
        key = "" if new.key is None else flow_key(new.key, self._style, quoted=quoted)
        return key + pretty(new.value, self._style, indent, quoted=quoted)

    def _insert_flow(self, end: int, texts: list[str], gap: str, own_lines: bool) -> None:
        at = self._text.skip_trivia(end)
        comma = self._content.startswith(",", at)
        at = at + 1 if comma else end
        if not comma:
            self._splice(at, at, ",")
        rest = self._text.after(at).strip()
        if own_lines and (not rest or rest.startswith("#")):
            at = self._text.line_end(at)
        self._splice(at, at, ",".join(gap + text for text in texts) + ("," if comma else ""))

    # Whole values

    def put(self, node: Node, new: Any, place: Place) -> None:
        """Write the value anew; the node's anchor stays, its tag goes."""
        if place.after == NOWHERE:
            raise EditError
        site = self._site(node, place)
        if is_nested(new) and not place.flow:
            self._put_block(site, new, place)
            return
        text = site.anchor + self._inline(node, new, place)
        if site.beneath:
            self._splice(site.attach, site.attach, " " + text)
            self._splice(self._text.line_end(site.attach), self._text.line_end(site.end), "")
        elif site.begin == site.end and not place.root:
            self._splice(site.attach, site.attach, " " + text)
        else:
            self._splice(site.begin, site.end, text)

    def _site(self, node: Node, place: Place) -> _Site:
        begin, attach, anchor = node.start, place.after, ""
        if node.tag is not None:
            begin = node.outer
            anchor = f"&{node.anchor} " if node.anchor else ""
        elif node.anchor is not None:
            attach = node.outer + 1 + len(node.anchor)
        return _Site(
            attach=attach,
            begin=begin,
            end=max(node.end, attach),
            anchor=anchor,
            beneath=_is_block(node) and self._text.line_start(begin) > attach,
            anchored=node.anchor is not None,
        )

    def _inline(self, node: Node, new: Any, place: Place) -> str:
        if isinstance(new, dict | list):
            indent = self._text.indentation(place.after)
            return pretty(new, self._style, indent, quoted=place.quoted)
        style = node.style if isinstance(node, Scalar) else ""
        like = style if style in ("'", '"') else ""
        return write_scalar(new, flow=place.flow, quoted=place.quoted, like=like)

    def _put_block(self, site: _Site, new: Any, place: Place) -> None:
        lines = block(new, self._style)
        line_break = self._text.line_break(site.attach)
        if place.root:
            self._splice(site.begin, site.end, line_break.join(lines))
        elif place.item and not site.anchored:
            written = site.begin < site.end
            column = self._text.column(site.begin) if written else place.column + 2
            below = [line_break + " " * column + line for line in lines[1:]]
            begin = site.begin if written else site.attach
            self._put_lines(begin, site.end, lines[0] if written else " " + lines[0], below)
        else:
            step = self._style.step if isinstance(new, dict) else self._style.list_step
            column = place.column + (2 if place.item else step)
            below = [line_break + " " * column + line for line in lines]
            if site.beneath:
                end = self._text.line_end(site.end)
                self._splice(self._text.line_end(site.attach), end, "".join(below))
            else:
                head = " " + site.anchor.rstrip() if site.anchor else ""
                self._put_lines(site.attach, site.end, head, below)

    def _put_lines(self, begin: int, end: int, head: str, below: list[str]) -> None:
        """Replace a value by `head` on its line, and more lines below that line's comment."""
        self._splice(begin, end, head)
        at = self._text.line_end(end)
        self._splice(at, at, "".join(below))


def _is_block(node: Node) -> bool:
    return isinstance(node, Mapping | Sequence) and not node.flow
