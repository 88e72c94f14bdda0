"""YAML read into nodes, from libyaml's events where it is there, else PyYAML's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from .compose import Limits, add_entry, find_template, template_error
from .nodes import Alias, Mapping, Node, Scalar, Sequence
from .scalars import resolve

if TYPE_CHECKING:
    from .text import ManifestError, Text

EventLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNREADABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # YAML 1.1, section 4.1
_PROPERTY = re.compile(r"&[0-9A-Za-z_-]+|!<[^>]*>|![^\s,\[\]{}]*")
_HINTS = {
    "\t": "a tab where YAML takes spaces only: replace it by spaces",
    "@": "a plain value cannot begin with `@`: quote it",
    "`": "a plain value cannot begin with a backquote: quote it",
    "%": "a plain value cannot begin with `%`: quote it",
}


def read_yaml(text: Text) -> list[Node]:
    """The root node of each document. Raises ManifestError."""
    if unreadable := _UNREADABLE.search(text.content):
        code = ord(unreadable[0])
        raise text.error(unreadable.start(), f"control character U+{code:04X} is not allowed here")
    loader = EventLoader(text.content)
    try:
        return _Reader(text, loader).documents()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(text, error) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise text.error(0, f"not valid YAML: {error}") from None
    finally:
        loader.dispose()


class _Reader:
    def __init__(self, text: Text, loader: Any) -> None:
        self._text = text
        self._content = text.content
        self._next = loader.get_event
        self._limits = Limits(text)
        self._anchors: dict[str, Node] = {}

    def documents(self) -> list[Node]:
        documents = []
        while (event := self._next()) is not None:
            if type(event) is yaml.DocumentStartEvent:
                self._anchors = {}
                documents.append(self._node(self._next(), 0))
        return documents

    def _node(self, event: Any, depth: int) -> Node:
        outer = event.start_mark.index
        self._limits.admit(outer, depth)
        if type(event) is yaml.AliasEvent:
            return self._alias(event, outer)
        start = self._content_start(event, outer)
        if type(event) is yaml.ScalarEvent:
            return self._scalar(event, outer, start)
        known = {"outer": outer, "start": start, "anchor": event.anchor, "tag": event.tag}
        if type(event) is yaml.SequenceStartEvent:
            return self._sequence(Sequence(flow=bool(event.flow_style), **known), depth)
        return self._mapping(Mapping(flow=bool(event.flow_style), **known), depth)

    def _content_start(self, event: Any, outer: int) -> int:
        start: int = outer
        for _ in range((event.anchor is not None) + (event.tag is not None)):
            if match := _PROPERTY.match(self._content, self._text.skip_trivia(start)):
                start = match.end()
        return start if start == outer else self._text.skip_trivia(start)

    def _alias(self, event: Any, outer: int) -> Alias:
        target = self._anchors.get(event.anchor)
        if target is None:
            raise self._text.error(
                outer, f"alias *{event.anchor} has no anchor &{event.anchor} before it"
            )
        if target.end < 0:
            raise self._text.error(outer, f"anchor &{event.anchor} contains itself")
        return Alias(outer=outer, start=outer, end=event.end_mark.index, target=target)

    def _scalar(self, event: Any, outer: int, start: int) -> Scalar:
        end = event.end_mark.index
        start = min(start, end)  # equal when there is only an anchor or a tag
        style = event.style or ""
        if style in ("|", ">"):
            end = self._block_scalar_end(start, end)
        try:
            kind, value = resolve(event.value, event.tag, event.implicit[0])
        except ValueError as error:
            raise self._text.error(outer, str(error)) from None
        scalar = Scalar(
            outer=outer,
            start=start,
            end=end,
            anchor=event.anchor,
            tag=event.tag,
            style=style,
            kind=kind,
            value=value,
        )
        self._remember(scalar)
        return scalar

    def _block_scalar_end(self, start: int, end: int) -> int:
        """Before the last line's break; the blank lines after it are content only for `+`."""
        keep = "+" in self._text.after(start).partition("#")[0]
        while end > start and self._text.column(end) == 0:
            end -= 2 if self._content.startswith("\r\n", end - 2) else 1
            if keep:
                break
        return end

    def _remember(self, node: Node) -> None:
        if node.anchor is not None:
            self._anchors[node.anchor] = node

    def _sequence(self, sequence: Sequence, depth: int) -> Sequence:
        self._remember(sequence)
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            sequence.items.append(self._node(event, depth + 1))
        last = sequence.items[-1].end if sequence.items else sequence.start
        sequence.end = _offset(event.end_mark, last) if sequence.flow else last
        return sequence

    def _mapping(self, mapping: Mapping, depth: int) -> Mapping:
        self._remember(mapping)
        seen: dict[str, Node] = {}
        last = mapping.start
        while type(event := self._next()) is not yaml.MappingEndEvent:
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            if value.start == value.end and value.outer == value.start:
                value.outer = value.start = value.end = self._after_key(key)
            add_entry(self._text, mapping, seen, key, value)
            last = value.end
        braces = mapping.flow and self._content.startswith("{", mapping.start)
        mapping.end = _offset(event.end_mark, last) if braces else last
        return mapping

    def _after_key(self, key: Node) -> int:
        """Where an empty value stands: after the colon, or after a key that has none."""
        colon = self._text.skip_trivia(key.end)
        return colon + 1 if self._content.startswith(":", colon) else key.end


def _offset(mark: Any, default: int) -> int:
    return default if mark is None else int(mark.index)


def _syntax_error(text: Text, error: yaml.MarkedYAMLError) -> ManifestError:
    start = _offset(error.context_mark, 0)
    offset = min(_offset(error.problem_mark, start), len(text.content))
    position = text.position(offset)
    template = find_template(text, position.line)
    if template >= 0:
        return template_error(text, template)
    problem, context = error.problem or "", error.context or ""
    if "quoted scalar" in context and "unexpected" in problem:
        return text.error(start, "this quote is never closed")
    if "cannot start any token" in problem:
        hint = _HINTS.get(text.content[offset : offset + 1])
        return text.error(offset, hint or f"not valid YAML: {problem}")
    if "tab character" in problem:
        return text.error(offset, _HINTS["\t"])
    if "expected alphabetic or numeric character" in problem:
        return text.error(start, "a plain value cannot begin with `*` or `&`: quote it")
    where = f" ({context} on line {text.position(start).line})" if context else ""
    return text.error(offset, f"not valid YAML: {problem}{where}")
