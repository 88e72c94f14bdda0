"""Changes as JSON Patch operations (RFC 6902) that are sure to apply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from msgspec import Struct

from batten_webhooks.verdict import Change, pointer_key
from batten_webhooks.workload import Workload


class Operation(TypedDict, total=False):
    op: str
    path: str
    value: Any


def operations(workload: Workload, changes: Iterable[Change], root: str = "") -> list[Operation]:
    """The operations that make `changes`, in order; `root` is the object's own JSON Pointer.

    A missing parent is made by one `add` that holds everything to go below it, since the API
    server refuses the user's request when a patch does not apply, whatever the failurePolicy.
    """
    made: dict[str, Any] = {}
    result: list[Operation] = []
    base = root + workload.prefix
    for change in changes:
        if change.op != "add":
            result.append(_plain(change, base))
            continue
        tokens = change.path.split("/")[1:]
        depth = _existing(workload, tokens)
        first = base + "".join(f"/{token}" for token in tokens[: depth + 1])
        below = tokens[depth + 1 :]
        if first in made:
            _put(made[first], below, change.value)
            continue
        value = _nest(below, change.value)
        if below:
            made[first] = value
        result.append({"op": "add", "path": first, "value": value})
    return result


def _plain(change: Change, base: str) -> Operation:
    if change.op == "remove":
        return {"op": "remove", "path": base + change.path}
    return {"op": change.op, "path": base + change.path, "value": change.value}


def _existing(workload: Workload, tokens: list[str]) -> int:
    """How many of the leading tokens name something that is there, at most all but the last."""
    node: Any = workload.template
    for depth, token in enumerate(tokens[:-1]):
        node = _child(node, token)
        if node is None:
            return depth
    return len(tokens) - 1


def _child(node: Any, token: str) -> Any:
    if isinstance(node, Struct):
        return getattr(node, token)
    if isinstance(node, list):
        return node[int(token)]
    return node.get(pointer_key(token))


def _nest(below: list[str], value: Any) -> Any:
    for token in reversed(below):
        value = [value] if token == "-" else {pointer_key(token): value}  # noqa: S105
    return value


def _put(parent: Any, below: list[str], value: Any) -> None:
    key, rest = pointer_key(below[0]), below[1:]
    if isinstance(parent, list):
        parent.append(_nest(rest, value))
    elif rest and key in parent:
        _put(parent[key], rest, value)
    else:
        parent[key] = _nest(rest, value)
