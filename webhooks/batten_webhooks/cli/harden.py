"""`batten harden`: edit files so that their Pods are safe, touching only the lines it must."""

from __future__ import annotations

import difflib
import os
import stat
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from batten_webhooks.cli import CannotRun
from batten_webhooks.cli.asking import asking, facts
from batten_webhooks.cli.files import (
    STDIN,
    Progress,
    Source,
    Subject,
    Unrelated,
    Unusable,
    edit,
    parse,
    read,
    sources,
    subjects,
)
from batten_webhooks.cli.fixes import lines
from batten_webhooks.cli.formats.text import plain
from batten_webhooks.cli.judge import Result, doubts, problem, read_kinds, read_policy
from batten_webhooks.cli.pinning import pins
from batten_webhooks.engine import evaluate
from batten_webhooks.manifests import Manifest
from batten_webhooks.manifests.text import Text
from batten_webhooks.patch import Operation, operations
from batten_webhooks.verdict import Verdict, acting
from batten_webhooks.workload import Workload


def run(options: Namespace) -> int:
    policy, kinds = read_policy(options.policy), read_kinds(options.kinds)
    files = sources(options.paths)
    if options.write and any(source.path == STDIN for source in files):
        raise CannotRun("--write edits files: standard input is none")
    progress = Progress(len(files) if options.write else 0)
    put = _writer(options, progress, several=len(files) > 1)
    result = Result()
    asks = options.look_up_images or options.pins in {"pin", "refresh"}
    with asking(options, wanted=asks) as look_up:
        pin = pins(options.pins, look_up)
        for number, source in enumerate(files):
            progress.step(number)
            try:
                before = read(source)
                manifest = pin(source, parse(source, before), kinds, result)
                found = subjects(source, manifest, kinds)
                known = facts(look_up if options.look_up_images else None, found)
                judge = partial(evaluate, policy=policy, facts=known)
                put(source, before, _hardened(source, manifest, found, judge, result))
            except Unrelated as reason:
                result.pass_over(source, reason, lenient=options.skip_unrelated)
            except Unusable as error:
                result.unusable.append(error)
    progress.end()
    sys.stdout.flush()
    _tell(result)
    return result.code


def _tell(result: Result) -> None:
    """What stands in the way of safe files; the rest is in the files."""
    for error in result.unusable:
        print(f"batten: {error}", file=sys.stderr)
    for found in sorted(result.problems, key=lambda found: found.place):
        print(plain(found), file=sys.stderr)


def _hardened(
    source: Source,
    manifest: Manifest,
    found: Sequence[Subject],
    judge: Callable[[Workload], Verdict],
    result: Result,
) -> bytes:
    patches: dict[int, list[Operation]] = {}
    shown = manifest.lines()
    for each in found:
        verdict = judge(each.workload)
        changes = [applied.change for applied in verdict.changes]
        if changes:
            patch = operations(each.workload, changes, each.pointer)
            patches.setdefault(each.document.index, []).extend(patch)
        left = [*acting(verdict.remaining(), "Deny"), *doubts(verdict)]
        result.problems += [problem(source, shown, each, violation) for violation in left]
    return edit(source, manifest, patches)


def _writer(
    options: Namespace, progress: Progress, *, several: bool
) -> Callable[[Source, bytes, bytes], None]:
    """What is done with each file's bytes before and after."""
    if options.diff:
        return _print_diff
    if options.write:
        return partial(_write, progress)
    return _Stream().add if several else _print


def _print(_: Source, __: bytes, after: bytes) -> None:
    sys.stdout.buffer.write(after)


def _write(progress: Progress, source: Source, before: bytes, after: bytes) -> None:
    if after != before:
        _replace(source, after)
        progress.say(f"hardened {source.shown}")


class _Stream:
    """Several files printed as one YAML stream, in UTF-8."""

    def __init__(self) -> None:
        self._begun = False

    def add(self, _: Source, __: bytes, after: bytes) -> None:
        text = Text.decode(after).content
        if self._begun:
            text = _separator(text) + text
        self._begun = True
        sys.stdout.buffer.write(text.encode() + (b"" if text.endswith("\n") else b"\n"))


def _separator(text: str) -> str:
    """What parts a file from the one before it; directives need that one's end (YAML 1.2, 9.2)."""
    said = (line for line in text.split("\n") if line.strip() and not line.startswith("#"))
    first = next(said, "")
    if first.startswith("---"):
        return ""
    return "...\n" if first.startswith("%") else "---\n"


def _print_diff(source: Source, before: bytes, after: bytes) -> None:
    """A unified diff that `patch -p1` takes, byte for byte; UTF-16 is shown as UTF-8."""
    if before == after:
        return
    name = "stdin" if source.path == STDIN else source.shown.lstrip("/")
    name += "\t" * (" " in name)  # where a name with blanks ends, as diff(1) tells it
    for line in difflib.unified_diff(lines(before), lines(after), f"a/{name}", f"b/{name}"):
        end = "" if line.endswith("\n") else "\n\\ No newline at end of file\n"
        sys.stdout.buffer.write((line + end).encode())


def _replace(source: Source, data: bytes) -> None:
    """The whole file or nothing of it, whenever we are stopped; through a symlink, its target."""
    target = Path(source.path).resolve()
    temporary = ""
    try:
        kept = target.stat()
        if not stat.S_ISREG(kept.st_mode):
            raise Unusable(source, "is no regular file, so it cannot be edited in place")
        descriptor, temporary = tempfile.mkstemp(prefix=".batten-", dir=target.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            with suppress(PermissionError):
                os.fchown(file.fileno(), kept.st_uid, kept.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(kept.st_mode))
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise Unusable(
            source, f"cannot be written: {(error.strerror or str(error)).lower()}"
        ) from None
    finally:
        with suppress(OSError):
            os.unlink(temporary)
