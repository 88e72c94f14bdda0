"""Scans and VEX documents in files, whatever scanner wrote them."""

from __future__ import annotations

import sys
from typing import NamedTuple

from batten_webhooks.cli import CannotRun
from batten_webhooks.cli.files import STDIN, Source, read_file, reason
from batten_webhooks.evidence.model import MOST_BYTES, Document, ScanEvidence, Unreadable, Vex
from batten_webhooks.evidence.readers import read


class Read(NamedTuple):
    """`name` is the file's, as it can be printed."""

    name: str
    data: bytes
    document: Document

    @property
    def scan(self) -> ScanEvidence | None:
        return self.document if isinstance(self.document, ScanEvidence) else None

    @property
    def vex(self) -> Vex | None:
        return self.document if isinstance(self.document, Vex) else None


def read_evidence(path: str) -> Read:
    """A file, or standard input where it is `-`. Raises CannotRun."""
    name = Source(STDIN if path == "-" else path, named=True).shown
    try:
        data = sys.stdin.buffer.read(MOST_BYTES + 1) if path == "-" else read_file(path)
        return Read(name, data.removeprefix(b"\xef\xbb\xbf"), read(data))
    except Unreadable as error:
        raise CannotRun(f"{name}: {error}") from None
    except (OSError, ValueError) as error:
        raise CannotRun(f"{name}: {reason(error)}") from None
