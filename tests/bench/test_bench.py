"""`make bench` runs and prints every figure; how large they are is no test's business."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TITLES = (
    "mutate, a Pod that needs ",
    "validate, the Pod as changed",
    "among, mutate",
    "among, validate, refused",
    "digests of tags",
    "canned patch",
    "batten mutate",
    "batten validate",
    "idle",
    "after 500 more reviews",
)


def test_the_quick_run_prints_every_figure() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for title in TITLES:
        [line] = [line for line in done.stdout.splitlines() if line.strip().startswith(title)]
        figures = re.findall(r"\d+(?:\.\d+)?", line.partition(title)[2])
        assert figures, line
        assert all(float(figure) > 0 for figure in figures), line
