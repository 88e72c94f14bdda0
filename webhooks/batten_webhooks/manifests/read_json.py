"""JSON read into nodes, as kubectl reads it: one document or several in a row.

YAML readers are no substitute: they refuse surrogate escapes and tabs in places.
"""

from __future__ import annotations

import re
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed lacks it
from typing import TYPE_CHECKING

from .compose import Limits, add_entry
from .nodes import Mapping, Node, Scalar, Sequence
from .scalars import resolve

if TYPE_CHECKING:
    from .text import Text

_BLANK = re.compile(r"[ \t\r\n]*")
_WORD = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")


def looks_like_json(text: Text) -> bool:
    """Whether the text begins as a JSON object or list does."""
    return text.content.lstrip()[:1] in ("{", "[")


def read_json(text: Text) -> list[Node]:
    """The stream's documents. Raises ManifestError for anything that is not strictly JSON."""
    return _Reader(text).documents()


class _Reader:
    def __init__(self, text: Text) -> None:
        self._text = text
        self._content = text.content
        self._limits = Limits(text)

    def documents(self) -> list[Node]:
        documents = []
        offset = self._skip(0)
        while offset < len(self._content):
            documents.append(self._value(offset, 0))
            offset = self._skip(documents[-1].end)
        return documents

    def _skip(self, offset: int) -> int:
        match = _BLANK.match(self._content, offset)
        return match.end() if match else offset

    def _value(self, offset: int, depth: int) -> Node:
        self._limits.admit(offset, depth)
        match self._content[offset : offset + 1]:
            case "{":
                return self._mapping(offset, depth)
            case "[":
                return self._sequence(offset, depth)
            case '"':
                return self._string(offset)
        return self._word(offset)

    def _string(self, offset: int) -> Scalar:
        try:
            value, end = scanstring(self._content, offset + 1, True)
        except JSONDecodeError as error:
            raise self._text.error(error.pos, f"not valid JSON: {error.msg}") from None
        # Go's decoder reads a lone surrogate escape as U+FFFD
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return Scalar(outer=offset, start=offset, end=end, style='"', kind="str", value=value)

    def _word(self, offset: int) -> Scalar:
        match = _WORD.match(self._content, offset)
        if not match:
            raise self._text.error(offset, "not valid JSON: a value is expected here")
        kind, value = resolve(match[0], None, plain=True)
        if kind == "str":
            raise self._text.error(offset, "the number is too large")
        return Scalar(outer=offset, start=offset, end=match.end(), kind=kind, value=value)

    def _mapping(self, offset: int, depth: int) -> Mapping:
        mapping = Mapping(outer=offset, start=offset, flow=True)
        seen: dict[str, Node] = {}
        at = self._skip(offset + 1)
        while self._content[at : at + 1] != "}":
            if self._content[at : at + 1] != '"':
                raise self._text.error(at, "not valid JSON: a key in double quotes is expected")
            key = self._string(at)
            value = self._value(self._skip(self._expect(key.end, ":")), depth + 1)
            add_entry(self._text, mapping, seen, key, value)
            at = self._next(value.end, "}")
        mapping.end = at + 1
        return mapping

    def _sequence(self, offset: int, depth: int) -> Sequence:
        sequence = Sequence(outer=offset, start=offset, flow=True)
        at = self._skip(offset + 1)
        while self._content[at : at + 1] != "]":
            sequence.items.append(self._value(at, depth + 1))
            at = self._next(sequence.items[-1].end, "]")
        sequence.end = at + 1
        return sequence

    def _expect(self, offset: int, char: str) -> int:
        at = self._skip(offset)
        if not self._content.startswith(char, at):
            raise self._text.error(at, f"not valid JSON: `{char}` is expected here")
        return at + 1

    def _next(self, offset: int, close: str) -> int:
        """Where the next entry begins, or the closing bracket stands."""
        at = self._skip(offset)
        if self._content.startswith(close, at):
            return at
        at = self._skip(self._expect(at, ","))
        if self._content.startswith(close, at):
            raise self._text.error(at, "not valid JSON: a comma before the closing bracket")
        return at
