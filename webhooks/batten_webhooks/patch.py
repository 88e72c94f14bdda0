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
    there: dict[str, Any] = {"": workload.template, "/spec": workload.template.spec}
    there |= {site.pointer: site.container for site in workload.sites}
    made: dict[str, Any] = {}
    result: list[Operation] = []
    base = root + workload.prefix
    for change in changes:
        path, value = change.path, change.value
        if change.op == "remove":
            result.append({"op": "remove", "path": base + path})
            continue
        if change.op == "replace":
            result.append({"op": "replace", "path": base + path, "value": value})
            continue
        parent, _, key = path.rpartition("/")
        while parent not in made and _at(there, parent) is None:
            value = made[parent] = [value] if key == "-" else {pointer_key(key): value}
            parent, _, key = parent.rpartition("/")
        if parent not in made:
            result.append({"op": "add", "path": f"{base}{parent}/{key}", "value": value})
        elif key == "-":
            made[parent].append(value)
        else:
            made[parent][pointer_key(key)] = value
    return result


def _at(there: dict[str, Any], pointer: str) -> Any:
    """What the Pod has at a pointer, None for nothing; `there` remembers the answers."""
    if pointer in there:
        return there[pointer]
    parent, _, key = pointer.rpartition("/")
    above = _at(there, parent)
    found = there[pointer] = None if above is None else _child(above, key)
    return found


def _child(node: Any, token: str) -> Any:
    if isinstance(node, Struct):
        return getattr(node, token)
    if isinstance(node, list):
        return node[int(token)]
    return node.get(pointer_key(token))
