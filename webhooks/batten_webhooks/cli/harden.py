"""`batten harden`: edit files so that their Pods are safe, touching only the lines it must."""

from __future__ import annotations

import difflib
import os
import stat
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from batten_webhooks.cli.files import (
    STDIN,
    Progress,
    Source,
    Subject,
    Unrelated,
    Unusable,
    parse,
    read,
    sources,
    subjects,
)
from batten_webhooks.cli.formats.text import plain
from batten_webhooks.cli.judge import Result, problems, read_kinds, read_policy
from batten_webhooks.engine import evaluate
from batten_webhooks.manifests import Manifest, ManifestError
from batten_webhooks.patch import Operation, operations
from batten_webhooks.policy import Policy


def run(options: Namespace) -> int:
    policy, kinds = read_policy(options.policy), read_kinds(options.kinds)
    result = Result()
    files = sources(options.paths)
    progress = Progress(len(files) if options.write else 0)
    printed = False
    for number, source in enumerate(files):
        progress.step(number)
        try:
            before = read(source)
            manifest = parse(source, before)
            found = subjects(source, manifest, kinds)
            after = _hardened(source, manifest, found, policy, result)
            _put(source, before, after, options, separate=printed)
            printed = True
        except Unrelated as reason:
            result.pass_over(source, reason, lenient=options.skip_unrelated)
        except Unusable as error:
            result.unusable.append(error)
    progress.end()
    sys.stdout.flush()
    for error in result.unusable:
        print(f"batten: {error}", file=sys.stderr)
    for problem in result.problems:
        if problem.level == "error":
            print(plain(problem), file=sys.stderr)
    return result.code


def _hardened(
    source: Source,
    manifest: Manifest,
    found: Sequence[Subject],
    policy: Policy,
    result: Result,
) -> bytes:
    patches: dict[int, list[Operation]] = {}
    for each in found:
        verdict = evaluate(each.workload, policy)
        changes = [applied.change for applied in verdict.changes]
        if changes:
            patch = operations(each.workload, changes, each.pointer)
            patches.setdefault(each.document.index, []).extend(patch)
        result.problems += problems(source, each, verdict.remaining())
    try:
        return manifest.edit(patches)
    except ManifestError as error:
        raise Unusable(source, error.message, error.line, error.column) from None


def _put(source: Source, before: bytes, after: bytes, options: Namespace, separate: bool) -> None:
    if options.diff:
        sys.stdout.write(_diff(source, before, after))
    elif options.write and source.path != STDIN:
        if after != before:
            _replace(source, after)
            print(f"hardened {source.shown}", file=sys.stderr)
    else:
        out = sys.stdout.buffer
        if separate and not after.lstrip().startswith(b"---"):
            out.write(b"---\n")
        out.write(after)
        if len(options.paths) > 1 and not after.endswith(b"\n"):
            out.write(b"\n")


def _diff(source: Source, before: bytes, after: bytes) -> str:
    """A unified diff that `patch -p1` takes."""
    name = "stdin" if source.path == STDIN else source.shown.lstrip("/")
    old, new = (data.decode(errors="replace").splitlines(keepends=True) for data in (before, after))
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _replace(source: Source, data: bytes) -> None:
    """The whole file or nothing of it, whenever we are stopped; through a symlink, its target."""
    target = Path(source.path).resolve()
    temporary = ""
    try:
        kept = target.stat()
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), stat.S_IMODE(kept.st_mode))
            with suppress(PermissionError):
                os.fchown(file.fileno(), kept.st_uid, kept.st_gid)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise Unusable(source, f"cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            os.unlink(temporary)
