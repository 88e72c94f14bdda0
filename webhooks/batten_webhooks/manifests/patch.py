"""JSON Patch (RFC 6902) on plain data, copying only what a patch changes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from .compose import DEEPEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Operation = Mapping[str, Any]

_SURROGATE = re.compile("[\ud800-\udfff]")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class PatchError(Exception):
    """An operation that does not apply; `pointer` is its path."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer
        self.message = message


class EditedList(list[Any]):
    """A changed list; `origins` has each item's index in the original, None for a new one."""

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items)
        self.origins: list[int | None] = (
            list(items.origins) if isinstance(items, EditedList) else list(range(len(items)))
        )


def apply(value: Any, operations: Sequence[Operation]) -> Any:
    """The patched value; the original stays as it is and shares what did not change.

    Knows `add`, `remove`, `replace` and `test`. Raises PatchError.
    """
    for operation in operations:
        name, path = operation.get("op"), operation.get("path")
        if not isinstance(path, str):
            raise PatchError("", "an operation without a path")
        if name not in ("add", "remove", "replace", "test") or (
            name != "remove" and "value" not in operation
        ):
            raise PatchError(path, f"{name!r} is no operation that can be applied to a file")
        try:
            _check(operation.get("value"))
            value = _apply(value, parse_pointer(path), str(name), operation.get("value"))
        except (LookupError, ValueError) as error:
            raise PatchError(path, f"cannot {name} {path}: {error.args[0]}") from None
    return value


def parse_pointer(pointer: str) -> list[str]:
    """The tokens of a JSON Pointer (RFC 6901). Raises ValueError when it is none."""
    if pointer and not pointer.startswith("/"):
        raise ValueError("a JSON Pointer begins with /")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _apply(value: Any, tokens: list[str], name: str, new: Any) -> Any:
    if not tokens:
        if name == "remove":
            raise ValueError("the whole document cannot be removed")
        if name == "test" and not same(value, new):
            raise ValueError("the value is another one")
        return value if name == "test" else new
    token, deeper = tokens[0], tokens[1:]
    if isinstance(value, dict):
        if not deeper and name == "add":
            return {**value, token: new}
        if token not in value:
            raise LookupError(f'there is no "{token}"')
        if not deeper and name == "remove":
            return {key: item for key, item in value.items() if key != token}
        changed = _apply(value[token], deeper, name, new)
        return value if changed is value[token] else {**value, token: changed}
    if isinstance(value, list):
        return _apply_to_list(value, token, deeper, name, new)
    raise LookupError(f'"{token}" is sought in something that is neither mapping nor list')


def _apply_to_list(items: list[Any], last: str, deeper: list[str], name: str, new: Any) -> Any:
    adds = name == "add" and not deeper
    index = len(items) if adds and last == "-" else _index(last, len(items) + adds)
    edited = EditedList(items)
    if adds:
        edited.insert(index, new)
        edited.origins.insert(index, None)
    elif name == "remove" and not deeper:
        del edited[index], edited.origins[index]
    else:
        edited[index] = _apply(items[index], deeper, name, new)
        if edited[index] is items[index]:
            return items
    return edited


def _index(token: str, length: int) -> int:
    if not _INDEX.fullmatch(token) or int(token) >= length:
        raise LookupError(f'the list has no item "{token}"')
    return int(token)


def _check(value: Any, depth: int = 0) -> None:
    """Raise ValueError for what JSON cannot hold, or what is deeper than any reader takes."""
    match value:
        case dict() if depth < DEEPEST and all(isinstance(key, str) for key in value):
            for item in (*value, *value.values()):
                _check(item, depth + 1)
        case list() if depth < DEEPEST:
            for item in value:
                _check(item, depth + 1)
        case None | bool() | int():
            pass
        case float() if math.isfinite(value):
            pass
        case str() if not _SURROGATE.search(value):
            pass
        case _:
            raise ValueError(f"its value holds {value!r:.80}, which is not JSON")


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 equals 1.0 but not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
