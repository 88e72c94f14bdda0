"""For people: place, rule and message, the line of the source, the field and the way out."""

from __future__ import annotations

import re
import sys
from argparse import Namespace

from batten_webhooks.cli.judge import Problem, Result
from batten_webhooks.cli.terminal import Styled, styler

COMMENT = re.compile(r"\s#")
# What opens a collection in flow style, and what matters in one: a quoted text, a bracket, a comma.
FLOW = re.compile(r"(?:^|[\s:\[{,-])[\[{]")
TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[][{},]")

LONGEST_LINE = 200


def write(result: Result, options: Namespace) -> None:
    styled = styler(options.color)
    for problem in result.problems:
        if problem.level != "note" or options.verbose:
            print(_paragraph(problem, styled))
    for error in result.unusable:
        print(f"batten: {error}", file=sys.stderr)
    if options.verbose:
        for source, reason in result.skipped:
            print(f"batten: {source.shown}: skipped: {reason}", file=sys.stderr)
    print(_summary(result), file=sys.stderr)


def plain(problem: Problem) -> str:
    """One line, for where the file itself is what is printed."""
    return (
        f"{problem.file}:{problem.line}:{problem.column}: {problem.level}[{problem.rule}] "
        f"{problem.object}: {problem.message} ({problem.field}: {problem.remedy})"
    )


def _paragraph(problem: Problem, styled: Styled) -> str:
    number = str(problem.line)
    bar = styled("dim", f"{' ' * len(number)} |")
    text = printable(problem.text)
    indent = len(text) - len(text.lstrip())
    start = max(indent, min(problem.column - 1, len(text)))
    length = max(1, len(_field(text, start)))
    text, start = _window(text, start)
    underline = "^" * min(length, max(1, len(text) - start))
    return "\n".join(
        [
            (
                f"{styled('bold', f'{problem.file}:{problem.line}:{problem.column}')}: "
                f"{styled(problem.level, f'{problem.level}[{problem.rule}]')} "
                f"{problem.object}: {problem.message}"
            ),
            f"{styled('dim', f'{number} |')} {text}",
            f"{bar} {' ' * start}{styled(problem.level, underline)}",
            f"{' ' * len(number)} = field: {problem.field}",
            f"{' ' * len(number)} = help: {problem.remedy}\n",
        ]
    )


def _window(text: str, start: int) -> tuple[str, int]:
    """What is shown of a long line, and where `start` is in it."""
    if len(text) <= LONGEST_LINE:
        return text, start
    first = max(0, start - LONGEST_LINE // 4)
    left = "…" if first else ""
    right = "…" if first + LONGEST_LINE < len(text) else ""
    return f"{left}{text[first : first + LONGEST_LINE]}{right}", start - first + len(left)


def _field(text: str, start: int) -> str:
    """The field that begins there, without a comment; in flow style up to the next one."""
    rest = COMMENT.split(text[start:])[0].rstrip()
    if not FLOW.search(text[:start]):
        return rest
    depth = 0
    for match in TOKEN.finditer(rest):
        depth += (match[0] in "{[") - (match[0] in "}]")
        if depth < 0 or (match[0] == "," and not depth):
            return rest[: match.start()]
    return rest


def printable(text: str) -> str:
    """Text that is a file's, without what a terminal would act on."""
    return "".join(
        character
        if character.isprintable()
        else " "
        if character == "\t"
        else "\N{REPLACEMENT CHARACTER}"
        for character in text.rstrip("\r\n")
    )


def _summary(result: Result) -> str:
    counts = [
        _counted(result.count("error"), "error"),
        _counted(result.count("warning"), "warning"),
        f"{_counted(result.workloads, 'workload')} in {_counted(len(result.judged), 'file')}",
    ]
    if result.unusable:
        counts.append(f"{_counted(len(result.unusable), 'file')} unusable")
    if result.skipped:
        counts.append(f"{len(result.skipped)} skipped")
    mended = sum(problem.fixable for problem in result.problems)
    return ", ".join(counts) + (f"; `batten harden` mends {mended}" if mended else "")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
