"""Colours, where somebody looks on and wants them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

RESET = "\033[0m"
STYLES = {
    "error": "\033[1;31m",
    "warning": "\033[1;33m",
    "note": "\033[1;36m",
    "bold": "\033[1m",
    "dim": "\033[2m",
    "code": "\033[36m",
}
Styled = Callable[[str, str], str]


def styler(choice: str) -> Styled:
    """A function that puts a text in a style, or leaves it; `choice` is that of `--color`.

    NO_COLOR (https://no-color.org) is heeded unless colours were asked for.
    """
    auto = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if choice == "always" or (choice == "auto" and auto):
        return lambda style, text: f"{STYLES[style]}{text}{RESET}"
    return lambda _, text: text
