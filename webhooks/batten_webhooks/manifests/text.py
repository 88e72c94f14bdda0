"""A file's text: its encoding, its lines, and the places in it."""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_FILE = 16 * 2**20  # bytes; the API server's own limit for one object is 3 MiB
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BREAKS = "\r\n\x85\u2028\u2029"  # what YAML 1.1 ends a line with
_LINE_BREAK = re.compile(rf"\r\n|[{_BREAKS}]")
_VEILED = re.compile(rf"[^{_BREAKS}]")
_LINE_END = re.compile(rf"[{_BREAKS}]|\Z")
_TRIVIA = re.compile(rf"(?:[ \t{_BREAKS}]+|#[^{_BREAKS}]*)*")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; `line` and `column` count from 1, `column` in characters."""

    line: int
    column: int


class ManifestError(Exception):
    """A file that cannot be read or edited: where, what is wrong, and what to do."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(f"{line}:{column}: {message}")
        self.line = line
        self.column = column
        self.message = message


class Text:
    """Decoded text; offsets are indexes into `content`."""

    def __init__(self, content: str, encoding: str = "utf-8", bom: bytes = b"") -> None:
        self.content = content
        self._encoding = encoding
        self._bom = bom

    @classmethod
    def decode(cls, data: bytes) -> Text:
        """UTF-8, or UTF-16 by its byte order mark; ManifestError for anything else."""
        if len(data) > LARGEST_FILE:
            raise ManifestError(1, 1, "the file has more than 16 MiB: split it")
        bom, encoding = next(
            (known for known in _ENCODINGS if data.startswith(known[0])), (b"", "utf-8")
        )
        body = data[len(bom) :]
        try:
            text = cls(body.decode(encoding), encoding, bom)
        except UnicodeDecodeError as error:
            before = cls(body[: error.start].decode(encoding, errors="replace"))
            raise before.error(
                len(before.content),
                "binary data, not a manifest"
                if b"\0" in body and encoding == "utf-8"
                else f"not {encoding.upper()} text: save the file as UTF-8",
            ) from None
        nul = text.content.find("\0")
        if nul >= 0:
            raise text.error(nul, "binary data (a NUL byte), not a manifest")
        return text

    def encode(self, content: str) -> bytes:
        """Other content in this text's encoding, with its byte order mark."""
        return self._bom + content.encode(self._encoding)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_BREAK.finditer(self.content))]

    def position(self, offset: int) -> Position:
        """The line and column of an offset."""
        line = bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1)

    def error(self, offset: int, message: str) -> ManifestError:
        """The error, at an offset."""
        position = self.position(offset)
        return ManifestError(position.line, position.column, message)

    def offset(self, line: int) -> int:
        """Where a line, by its number (from 1), begins."""
        return self._starts[line - 1]

    def line(self, number: int) -> str:
        """A line by its number (from 1), without its break; empty when there is none."""
        if not 1 <= number <= len(self._starts):
            return ""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.content)
        return self.content[start:end].rstrip(_BREAKS)

    def veiled(self, spans: Iterable[tuple[int, int]]) -> Text:
        """The same lines, with asterisks from the first to before the second offset of each."""
        parts = []
        after = 0
        for start, end in sorted(spans):
            parts.append(self.content[after : max(start, after)])
            parts.append(_VEILED.sub("*", self.content[max(start, after) : end]))
            after = max(end, after)
        return Text("".join([*parts, self.content[after:]])) if parts else self

    def line_start(self, offset: int) -> int:
        """Where the offset's line begins."""
        return self._starts[bisect_right(self._starts, offset) - 1]

    def line_end(self, offset: int) -> int:
        """Where the offset's line ends, before its break."""
        match = _LINE_END.search(self.content, offset)
        return match.start() if match else len(self.content)

    def break_before(self, offset: int) -> int:
        """Where the line before the offset's line ends; 0 on the first line."""
        start = self.line_start(offset)
        return max(0, start - (2 if self.content.startswith("\r\n", start - 2) else 1))

    def next_line(self, offset: int) -> int:
        """Where the line after the offset's begins, or the text ends."""
        index = bisect_right(self._starts, offset)
        return self._starts[index] if index < len(self._starts) else len(self.content)

    def line_break(self, offset: int) -> str:
        """How the offset's line is broken from the next; on the last line, from the one before."""
        match = _LINE_BREAK.search(self.content, offset)
        if match is None and (start := self.line_start(offset)):
            match = _LINE_BREAK.match(self.content, self.break_before(start))
        return match[0] if match and match[0] in ("\r\n", "\r") else "\n"

    def indentation(self, offset: int) -> str:
        """The blanks that the offset's line begins with."""
        line = self.line(self.position(offset).line)
        return line[: len(line) - len(line.lstrip(" \t"))]

    def column(self, offset: int) -> int:
        """The offset's distance from its line's start, as YAML counts indentation."""
        return offset - self.line_start(offset)

    def before(self, offset: int) -> str:
        """The part of the offset's line before it."""
        return self.content[self.line_start(offset) : offset]

    def after(self, offset: int) -> str:
        """The rest of the offset's line."""
        return self.content[offset : self.line_end(offset)]

    def skip_trivia(self, offset: int) -> int:
        """The first offset that is neither blank, line break nor comment."""
        match = _TRIVIA.match(self.content, offset)
        return match.end() if match else offset
