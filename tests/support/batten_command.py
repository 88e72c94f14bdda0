"""The real `batten` command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BATTEN = Path(sys.executable).with_name("batten")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def batten(*arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None) -> Ran:
    """Run it to its end. No output of it may ever be a traceback."""
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONUTF8": "1"}
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
    assert "Traceback" not in ran.out + ran.err, ran.err
    return ran
