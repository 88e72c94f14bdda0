"""What a registry asks for to be let in: the challenges of WWW-Authenticate (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LONGEST = 8192

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=\s|,|$)(?!\s*=)")
_PARAMETER = re.compile(rf"[\s,]*({_WORD})\s*=\s*({_QUOTED}|{_WORD})")


@dataclass(frozen=True, slots=True)
class Challenge:
    """`scheme` and the names of parameters are in small letters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def read_challenges(headers: Iterable[str]) -> list[Challenge]:
    """All of them, however many header fields they are spread over; what cannot be read ends it."""
    return [challenge for header in headers for challenge in _read(header[:LONGEST])]


def _read(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            position = parameter.end()
            value = parameter[2]
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            parameters.setdefault(parameter[1].lower(), value)
        found.append(Challenge(scheme[1].lower(), parameters))
    return found
