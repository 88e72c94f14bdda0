"""New text in a document's own style."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .nodes import Mapping, Node, Sequence, walk
from .scalars import write_json_string, write_scalar, write_string

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .text import Text


@dataclass(frozen=True, slots=True)
class Style:
    """How a document is written.

    `step`: spaces that a nested block mapping is indented by; `list_step`: that a block list is,
    under its key; `json`: strict JSON; `unit`: the indentation of JSON that breaks its lines,
    empty for JSON on one line; `colon`, `comma`: separators on one line.
    """

    json: bool
    step: int = 2
    list_step: int = 0
    unit: str = ""
    colon: str = ": "
    comma: str = ", "
    line_break: str = "\n"

    @classmethod
    def of(cls, text: Text, root: Node, json: bool) -> Style:
        """The style of a document, from what it does most often."""
        line_break = text.line_break(root.start)
        if json:
            return cls._of_json(text, root, line_break)
        steps: Counter[int] = Counter()
        list_steps: Counter[int] = Counter()
        for node in walk(root):
            if isinstance(node, Mapping) and not node.flow:
                column = text.column(node.start)
                for entry in node.entries:
                    match entry.value:
                        case Mapping(flow=False, start=start):
                            steps[text.column(start) - column] += 1
                        case Sequence(flow=False, start=start):
                            list_steps[text.column(start) - column] += 1
        return cls(
            json=False,
            step=_most_common(steps, 2),
            list_step=_most_common(list_steps, 0),
            line_break=line_break,
        )

    @classmethod
    def _of_json(cls, text: Text, root: Node, line_break: str) -> Style:
        unit, colon = "", ": "
        if isinstance(root, Mapping) and root.entries:
            entry = root.entries[0]
            colon = text.content[entry.key.end : entry.value.start]
            before = text.before(entry.key.start)
            if not before.strip() and text.line_start(entry.key.start) > root.start:
                unit = before.removeprefix(text.indentation(root.start))
        return cls(
            json=True,
            unit=unit,
            colon=colon if colon.strip() == ":" and colon.isprintable() else ": ",
            comma="," if colon == ":" else ", ",
            line_break=line_break,
        )


def _most_common(counts: Counter[int], default: int) -> int:
    """The likeliest positive (for lists: or zero) step; the smallest of equally frequent ones."""
    usual = [(-count, step) for step, count in counts.items() if step >= (default > 0)]
    return min(usual)[1] if usual else default


def block(value: Any, style: Style) -> list[str]:
    """Lines of a non-empty collection in block style, from column 0."""
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in block_entry(key, item, style)]
    return [line for item in value for line in block_item(item, style)]


def block_entry(key: str, value: Any, style: Style) -> list[str]:
    """Lines of a key and its value in a block mapping, from column 0."""
    name = write_string(key)
    if not is_nested(value):
        return [f"{name}: {flow(value, style)}"]
    indent = " " * (style.step if isinstance(value, dict) else style.list_step)
    return [f"{name}:", *(indent + line for line in block(value, style))]


def block_item(value: Any, style: Style, gap: int = 1) -> list[str]:
    """Lines of an item in a block list, from the dash's column; `gap` spaces after the dash."""
    lines = block(value, style) if is_nested(value) else [flow(value, style)]
    return ["-" + " " * gap + lines[0], *(" " * (gap + 1) + line for line in lines[1:])]


def is_nested(value: Any) -> bool:
    """Whether the value takes lines of its own in block style."""
    return bool(value) and isinstance(value, dict | list)


def flow(value: Any, style: Style, *, inside: bool = False, quoted: bool = False) -> str:
    """The value on one line; `inside` a flow collection fewer strings may stand plain.

    Raises ValueError for what JSON cannot hold.
    """
    quoted = quoted or style.json
    match value:
        case dict():
            entries = (
                flow_key(key, style, quoted=quoted) + flow(item, style, inside=True, quoted=quoted)
                for key, item in value.items()
            )
            return "{" + style.comma.join(entries) + "}"
        case list():
            items = (flow(item, style, inside=True, quoted=quoted) for item in value)
            return "[" + style.comma.join(items) + "]"
    return write_scalar(value, flow=inside, quoted=quoted)


def flow_key(key: str, style: Style, *, quoted: bool) -> str:
    """A key and its colon in a flow mapping."""
    return (write_json_string(key) if quoted else write_string(key, flow=True)) + style.colon


def pretty(value: Any, style: Style, indent: str, *, quoted: bool = False) -> str:
    """A value for a flow collection: on one line, or broken into lines as JSON may be.

    `indent` is that of the line it begins on.
    """
    if not (style.json and style.unit and is_nested(value)):
        return flow(value, style, inside=True, quoted=quoted)
    deeper = indent + style.unit
    if isinstance(value, dict):
        parts: Iterable[str] = (
            flow_key(key, style, quoted=True) + pretty(item, style, deeper)
            for key, item in value.items()
        )
    else:
        parts = (pretty(item, style, deeper) for item in value)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    separator = style.line_break + deeper
    body = ("," + separator).join(parts)
    return f"{opening}{separator}{body}{style.line_break}{indent}{closing}"
