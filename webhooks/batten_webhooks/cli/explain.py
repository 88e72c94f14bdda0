"""`batten explain`: a rule's own documentation, for a terminal."""

from __future__ import annotations

import difflib
import re
import shutil
import textwrap
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import fields
from itertools import groupby

from batten_webhooks.cli import CannotRun, command_module, rules
from batten_webhooks.cli.terminal import Styled, styler
from batten_webhooks.rules import BY_NAME
from batten_webhooks.rules.rule import Rule

WIDEST = 100
INDENT = "    "


def run(options: Namespace) -> int:
    if options.file:
        if options.rule is not None:
            raise CannotRun("explain: either a rule or --for FILE")
        return int(command_module("batten_webhooks.cli.governing").run(options))
    if options.rule is None:
        return rules.run(options)
    rule = BY_NAME.get(options.rule)
    if rule is None:
        close = difflib.get_close_matches(options.rule, BY_NAME, n=1)
        hint = f"did you mean {close[0]}?" if close else "`batten rules` lists them"
        raise CannotRun(f"no rule is named {options.rule!r}: {hint}")
    width = min(shutil.get_terminal_size().columns, WIDEST)
    print("\n".join(_page(rule, styler(options.color), width)))
    return 0


def _page(rule: Rule, styled: Styled, width: int) -> Iterator[str]:
    actions = ", ".join(sorted(rule.actions)) or "nothing"
    mutation = "changes Pods" if rule.mutates else "changes nothing"
    yield styled("bold", rule.name)
    yield styled("dim", f"{rule.level} · {mutation} · by default {actions}")
    yield ""
    yield from _rendered(rule.doc, styled, width)
    options = [f"{INDENT}{camel(p.name)}: {p.default}" for p in fields(rule.parameters)]
    if options:
        yield from ("", styled("bold", "Options"), *options)


def camel(name: str) -> str:
    """A parameter's name as policies write it."""
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def _rendered(markdown: str, styled: Styled, width: int) -> Iterator[str]:
    """Headings, paragraphs, lists and fenced code: what rules' docstrings are made of."""
    fenced = re.split(r"^```.*\n", markdown.strip() + "\n", flags=re.MULTILINE)
    for index, part in enumerate(fenced):
        if index % 2:
            yield from (styled("code", INDENT + line) for line in part.splitlines())
        else:
            yield from _prose(part, styled, width)


def _prose(text: str, styled: Styled, width: int) -> Iterator[str]:
    for blank, group in groupby(text.splitlines(), key=lambda line: not line.strip()):
        lines = list(group)
        if blank:
            yield ""
            continue
        if lines[0].startswith("## "):
            yield styled("bold", lines.pop(0).removeprefix("## "))
        if all(line.startswith(INDENT) for line in lines):
            yield from (styled("code", line) for line in lines)
            continue
        for block in re.split(r"\n(?=- )", "\n".join(lines)):
            filled = _filled(block, width)
            yield re.sub(r"`([^`]*)`", lambda code: styled("code", code[0]), filled)


def _filled(block: str, width: int) -> str:
    bullet = "- " if block.startswith("- ") else ""
    return textwrap.fill(
        " ".join(block.removeprefix(bullet).split()),
        width,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )
