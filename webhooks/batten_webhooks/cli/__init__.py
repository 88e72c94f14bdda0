"""The `batten` command. Each subcommand imports what it needs when it runs, to start quickly."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

CLUSTER_LIBRARIES = ("kubernetes", "aiohttp")


class CannotRun(Exception):
    """Unusable input or usage: the message is one line for stderr, the exit code 2."""


def command_module(name: str) -> ModuleType:
    """What runs a command. Raises CannotRun where only the library that it needs is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in CLUSTER_LIBRARIES:
            raise
        raise CannotRun(
            f"reading a cluster needs the library {error.name}: pip install 'batten[audit]'"
        ) from None
