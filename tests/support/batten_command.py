"""The real `batten` command, in a process of its own or, quicker, in this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest import mock

from batten_webhooks.cli.__main__ import main

DEFECT = re.compile(r"Traceback|internal error|Exception ignored")
BATTEN = Path(sys.executable).with_name("batten")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def batten(
    *arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None, **environment: str
) -> Ran:
    """Run it to its end. No output of it may ever tell of a defect."""
    done = subprocess.run(
        [BATTEN, *arguments],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        check=False,
        timeout=60,
        env={**os.environ, "NO_COLOR": "1", **environment},
    )
    ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert not DEFECT.search(ran.out + ran.err), ran.err
    return ran


def batten_inside(*arguments: str | Path, stdin: bytes = b"", cwd: Path) -> Ran:
    """The same within this process, in a tenth of the time."""
    streams = [TextIOWrapper(BytesIO(data), encoding="utf-8") for data in (stdin, b"", b"")]
    with (
        mock.patch.object(sys, "stdin", streams[0]),
        mock.patch.object(sys, "stdout", streams[1]),
        mock.patch.object(sys, "stderr", streams[2]),
        mock.patch.dict(os.environ, {"NO_COLOR": "1", "COLUMNS": "100"}),
        chdir(cwd),
    ):
        code = main([str(argument) for argument in arguments])
    out, err = (_text(stream) for stream in streams[1:])
    assert not DEFECT.search(out + err), err
    return Ran(code, out, err)


def _text(stream: TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, BytesIO)
    return stream.buffer.getvalue().decode()
