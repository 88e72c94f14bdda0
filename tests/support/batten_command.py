"""The real `batten` command in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

DEFECT = re.compile(r"Traceback|internal error|Exception ignored")
BATTEN = Path(sys.executable).with_name("batten")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def batten(*arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None) -> Ran:
    """Run it to its end. No output of it may ever tell of a defect."""
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [BATTEN, *arguments],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        check=False,
        timeout=60,
        env=environment,
    )
    ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert not DEFECT.search(ran.out + ran.err), ran.err
    return ran
