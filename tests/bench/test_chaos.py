"""`python -m bench.chaos` prints rows as a table, and puts it where the page has it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.chaos import BEGIN, END, ROOT, inserted

ROW = {
    "name": "network cut",
    "webhooks": "answer on",
    "controller": "leads on",
    "seconds": 1.5,
    "meanwhile": "",
    "lost": "nothing",
}


def test_rows_of_an_earlier_run_are_printed(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text(json.dumps(ROW) + "\n")
    command = [sys.executable, "-m", "bench.chaos", str(tmp_path / "rows")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = "| network cut | answer on | leads on | — | 1.5 s | nothing |"
    assert wanted in done.stdout.splitlines()


def test_a_page_keeps_all_but_the_table() -> None:
    page = f"before\n{BEGIN}old\n{END}after\n"
    assert inserted(page, "new\n") == f"before\n{BEGIN}new\n{END}after\n"
