"""What is wrong with an object, field by field, in words that say what would be right."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from batten_webhooks.messages import printable
from batten_webhooks.rules.rule import SHOWN_LENGTH, shown
from batten_webhooks.verdict import field_path, pointer_token

# Where these are wrong it is something else, whose other fields say nothing.
WHAT_IT_IS = {("apiVersion",), ("kind",)}

# Pydantic's types of errors, in words that complete "must be …".
EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "an object",
    "string_pattern_mismatch": "a name such as my-policy",
    "string_type": "a string",
}

Location = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


class Invalid(ValueError):
    """`located` are the places and what is wrong there; `errors` the same with field paths."""

    def __init__(self, located: Sequence[tuple[Location, str]]) -> None:
        self.located = list(located)
        super().__init__("; ".join(": ".join(filter(None, each)) for each in self.errors))

    @property
    def errors(self) -> list[tuple[str, str]]:
        return [(printable(field_path(pointer(at))), message) for at, message in self.located]

    @classmethod
    def of(cls, error: ValidationError, model: type[BaseModel]) -> Invalid:
        found = [
            (_location(details["loc"]), _message(dict(details), model))
            for details in error.errors(include_url=False)
        ]
        return cls([wrong for wrong in found if wrong[0] in WHAT_IT_IS] or found)


def validated(model: type[M], value: Any) -> M:
    """Raises Invalid."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Invalid.of(error, model) from None


def pointer(location: Location) -> str:
    return "".join(f"/{pointer_token(str(token))}" for token in location)


def either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _location(found: Location) -> Location:
    """Without pydantic's own mark of a dictionary's key."""
    return tuple(token for token in found if token != "[key]")  # noqa: S105 - no password


def _message(error: dict[str, Any], model: type[BaseModel]) -> str:
    location, kind, given = error["loc"], error["type"], error["input"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return _unknown(location, model)
    if kind == "value_error":
        return str(error["ctx"]["error"]) + _instead_of(given)
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"must be {either(allowed)}{_instead_of(given, allowed)}"
    expected = EXPECTED.get(kind) or str(error["msg"]).removeprefix("Input should be ")
    if kind.endswith("too_short"):
        expected = "not empty"
    if kind.endswith("too_long"):
        expected = f"shorter: at most {error['ctx']['max_length']}"
    hint = ": quote it" if kind == "string_type" and isinstance(given, int | float) else ""
    return f"must be {expected}{_instead_of(given)}{hint}"


def _unknown(location: Location, model: type[BaseModel]) -> str:
    known = _known_fields(location[:-1], model)
    what = "rule" if location[:-1] == ("spec", "rules") else "field"
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"unknown {what}: " + (
        f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    )


def _instead_of(given: Any, allowed: Sequence[str] = ()) -> str:
    if not isinstance(given, str):
        simple = isinstance(given, int | float)
        return f", not {json.dumps(given)}" if simple else ""
    close = difflib.get_close_matches(given.capitalize(), allowed, n=1) if allowed[1:] else []
    close = close or difflib.get_close_matches(given, allowed, n=1) if allowed[1:] else close
    quoted = shown(given) if allowed else json.dumps(given[:SHOWN_LENGTH])
    return f", not {quoted}" + (f": did you mean {close[0]}?" if close else "")


def _known_fields(location: Location, model: type[BaseModel]) -> list[str]:
    found: Any = model
    for token in location:
        if isinstance(token, int):
            continue
        field = next(f for f in found.model_fields.values() if f.alias == token)
        found = next(each for each in _types(field.annotation) if issubclass(each, BaseModel))
    return [field.alias or name for name, field in found.model_fields.items() if name != "status"]


def _types(annotation: Any) -> list[type]:
    """The classes within `X | None`, `list[X]` and the like."""
    within = getattr(annotation, "__args__", ())
    if within:
        return [each for part in within for each in _types(part)]
    return [annotation] if isinstance(annotation, type) else []
