"""The `batten` command. Each subcommand imports what it needs when it runs, to start quickly."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# By what is missing first: yarl comes with aiohttp.
LIBRARIES_OF_EXTRAS = {
    "kubernetes": "kubernetes",
    "aiohttp": "aiohttp",
    "yarl": "aiohttp",
    "cryptography": "cryptography",
}


class CannotRun(Exception):
    """Unusable input or usage: the message is one line for stderr, the exit code 2."""


def command_module(name: str) -> ModuleType:
    """What runs a command. Raises CannotRun where only the library that it needs is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        library = LIBRARIES_OF_EXTRAS.get((error.name or "").partition(".")[0])
        if library is None:
            raise
        extra = "audit" if name.startswith("batten_operator") else "images"
        if library == "cryptography":
            extra = "attestations"
        raise CannotRun(
            f"this needs the library {library}: pip install 'batten[{extra}]'"
        ) from None
