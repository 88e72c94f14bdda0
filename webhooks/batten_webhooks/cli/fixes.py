"""What would mend one violation, as replacements in its file's text."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from batten_webhooks.cli.files import Subject
from batten_webhooks.manifests import Manifest, ManifestError, Position
from batten_webhooks.manifests.text import Text
from batten_webhooks.patch import operations
from batten_webhooks.verdict import Violation

# Every fix reads its file anew: this many bytes for all fixes of a file, beyond which it gets none.
MOST_READ = 2**20


@dataclass(frozen=True, slots=True)
class Edit:
    """`text` in place of what stands from `start` up to `end`."""

    start: Position
    end: Position
    text: str


def affordable(data: bytes, violations: Sequence[Violation]) -> bool:
    """Whether the file's violations get fixes: they quote its lines, so that none may be secret."""
    return len(data) * len(violations) <= MOST_READ and not any(
        violation.finding.confidential for violation in violations
    )


def edits(manifest: Manifest, data: bytes, found: Subject, violation: Violation) -> list[Edit]:
    """The edits that apply the violation's own changes; none where it has none, or they cannot."""
    if not violation.finding.changes:
        return []
    patch = operations(found.workload, violation.finding.changes, found.pointer)
    try:
        after = lines(manifest.edit({found.document.index: patch}))
    except ManifestError:
        return []
    before = lines(data)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return [
        Edit(_at(before, start), _at(before, end), "".join(after[first:last]))
        for tag, start, end, first, last in matcher.get_opcodes()
        if tag != "equal"
    ]


def _at(before: list[str], index: int) -> Position:
    """Where a line begins; of the line after the last one, where the text ends."""
    if index == len(before) and before and not before[-1].endswith("\n"):
        return Position(index, len(before[-1]) + 1)
    return Position(index + 1, 1)


def lines(data: bytes) -> list[str]:
    """A file's text split at newlines alone, as `patch` does. A mark of UTF-8 is part of it."""
    text = data.decode() if data.startswith(BOM_UTF8) else Text.decode(data).content
    return [line for line in re.split(r"(?<=\n)", text) if line]
