"""Scalars: what kubectl reads from them, and how to write them so that every reader agrees.

kubectl reads YAML with sigs.k8s.io/yaml, that is go-yaml v2 followed by JSON. Its rules are
YAML 1.1's without base 60 and with Go's number syntax; PyYAML's differ, so they are restated here.
"""

from __future__ import annotations

import binascii
import json
import math
import re
import struct
from typing import Any

_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, tuple[str, bool | float | None]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), ("bool", True)),
    **dict.fromkeys(("true", "True", "TRUE"), ("bool", True)),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), ("bool", False)),
    **dict.fromkeys(("false", "False", "FALSE"), ("bool", False)),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), ("null", None)),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), ("float", math.nan)),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), ("float", math.inf)),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), ("float", -math.inf)),
}
_INTEGER = re.compile(
    r"([-+]?)(?:0[xX](?P<x>[0-9a-fA-F]+)|0[bB](?P<b>[01]+)|0[oO]?(?P<o>[0-7]+)|(?P<d>0|[1-9][0-9]*))"
)
_SIGNED_BINARY = re.compile(r"0b([-+][01]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_UNDERSCORE = re.compile(r"(?<=[0-9])_(?=[0-9])")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].+)?")
_BASES = {"x": 16, "b": 2, "o": 8, "d": 10}
_LONGEST_INTEGER = 70  # 64 binary digits, sign and prefix


def resolve(text: str, tag: str | None, plain: bool) -> tuple[str, Any]:
    """The type (`str`, `int`, `float`, `bool`, `null`) and value go-yaml v2 gives a scalar.

    Raises ValueError, with what is wrong, where go-yaml refuses the tag.
    """
    if tag is None:
        return _resolve_plain(text) if plain else ("str", text)
    kind = tag.removeprefix(_TAG) if tag.startswith(_TAG) else ""
    if kind == "binary":
        return "str", _decode_base64(text)
    if kind == "timestamp" and _TIMESTAMP.fullmatch(text):
        return "str", text
    if kind not in ("bool", "int", "float", "null", "timestamp"):
        return "str", text
    found, value = _resolve_plain(text)
    if kind == "float" and found == "int" and value < 2**63:
        return "float", float(value)
    if found != kind:
        raise ValueError(f"cannot read `{text[:40]}` as !!{kind}")
    return found, value


def _decode_base64(text: str) -> str:
    try:
        data = binascii.a2b_base64(text.replace("\r", "").replace("\n", ""), strict_mode=True)
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("a !!binary value must be text, JSON holds nothing else") from None
    except ValueError:
        raise ValueError("a !!binary value must be base64") from None


def _resolve_plain(text: str) -> tuple[str, Any]:
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first == ".":
        return _read_float(_UNDERSCORE.sub("", text)) or ("str", text)
    if first not in "+-0123456789":
        return "str", text
    digits = text.replace("_", "")
    return _read_integer(digits) or _read_float(digits) or ("str", text)


def _read_integer(digits: str) -> tuple[str, int] | None:
    if len(digits) > _LONGEST_INTEGER:
        return None
    if match := _INTEGER.fullmatch(digits):
        base = match.lastgroup or "d"
        value = int(match[base], _BASES[base]) * (-1 if match[1] == "-" else 1)
        largest = 2**63 - 1 if match[1] else 2**64 - 1
        return ("int", value) if -(2**63) <= value <= largest else None
    if match := _SIGNED_BINARY.fullmatch(digits):  # a quirk of go-yaml: "0b-1" is -1
        return "int", int(match[1], 2)
    return None


def _read_float(digits: str) -> tuple[str, float] | None:
    if not _FLOAT.fullmatch(digits):
        return None
    value = float(digits)
    return None if math.isinf(value) else ("float", value)


def json_value(kind: str, value: Any) -> Any:
    """The scalar after its way through JSON: `1e3` and `1.0` become integers.

    Raises ValueError for infinities and NaN, which JSON does not have.
    """
    if kind != "float":
        return value
    if not math.isfinite(value):
        raise ValueError("infinity and NaN are not JSON: quote it if a string is meant")
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


def key_text(kind: str, value: Any) -> str:
    """The string a mapping key becomes. Raises ValueError for null and 64-bit unsigned keys."""
    match kind:
        case "str":
            return str(value)
        case "bool":
            return "true" if value else "false"
        case "int" if value < 2**63:
            return str(value)
        case "float":
            return _float_key(value)
    raise ValueError("this cannot be a key: quote it if a string is meant")


def _float_key(value: float) -> str:
    """As Go's strconv.FormatFloat(value, 'g', -1, 32) writes it."""
    if math.isnan(value):
        return ".nan"
    try:
        single = struct.pack("f", value)
    except OverflowError:
        return ".inf" if value > 0 else "-.inf"
    (value,) = struct.unpack("f", single)
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    for places in range(9):
        text = f"{value:.{places}e}"
        if struct.pack("f", float(text)) == single:
            break
    exponent = int(text.partition("e")[2])
    return text if not -4 <= exponent < 6 else f"{float(text):.{max(0, places - exponent)}f}"


# Words some YAML 1.1 or 1.2 reader takes for a boolean or null.
_SPECIAL = frozenset(
    ("y", "n", "yes", "no", "on", "off", "true", "false", "null", ".inf", "-.inf", "+.inf", ".nan")
)
_LIKE_NUMBER = re.compile(r"[-+]?\.?[0-9][0-9a-fA-FxXoOtTzZ_.:+\- ]*")
_WORD = r"[A-Za-z0-9_./@%+=-]"
_PLAIN_FLOW = re.compile(rf"(?:[A-Za-z0-9_./]|[-+](?=[A-Za-z0-9_./-])){_WORD}*(?: {_WORD}+)*")
_PLAIN_BLOCK = re.compile(
    r"(?:[A-Za-z0-9_./$(]|[-+](?=[A-Za-z0-9_./-]))"
    r"(?:[A-Za-z0-9_./@%+=$()\[\]{},;&*!<>|^~?\"'\\-]|:(?=[^ ])|#| (?=[^ #]))*"
)
_INVISIBLE = re.compile(r"[\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]")


def write_string(text: str, *, flow: bool = False, like: str = "") -> str:
    """The string as YAML: plain where every reader takes it for a string, else quoted.

    `like` is the quote of the scalar it replaces. Raises ValueError for lone surrogates.
    """
    if like == '"' or not (like or _is_plain(text, flow)):
        return write_json_string(text)
    if like == "'" and text.isprintable() and not _INVISIBLE.search(text):
        return "'" + text.replace("'", "''") + "'"
    return text if _is_plain(text, flow) else write_json_string(text)


def _is_plain(text: str, flow: bool) -> bool:
    return bool(
        (_PLAIN_FLOW if flow else _PLAIN_BLOCK).fullmatch(text)
        and text.lower() not in _SPECIAL
        and not _LIKE_NUMBER.fullmatch(text)
        and not text.startswith(("---", "..."))
    )


def write_json_string(text: str) -> str:
    """The string in double quotes, as both JSON and YAML read it."""
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("a lone surrogate is not text")
    quoted = json.dumps(text, ensure_ascii=False)
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def write_scalar(value: Any, *, flow: bool = False, quoted: bool = False, like: str = "") -> str:
    """A JSON scalar as YAML; with `quoted`, strings always stand in double quotes.

    Raises ValueError for what JSON cannot hold.
    """
    match value:
        case str():
            return write_json_string(value) if quoted else write_string(value, flow=flow, like=like)
        case None | bool() | int():
            return json.dumps(value)
        case float() if math.isfinite(value):
            return json.dumps(value)
    raise ValueError(f"{value!r:.80} is not JSON")
