"""`python -m bench.chaos [--pods N] [--write]`: every fault of tests/chaos, and what happened, as a
table; with --write in docs/operations.md, too.

The tests run one after another, on control planes of their own: seconds depend on the machine and
on what else it does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE, TESTS = ROOT / "docs" / "operations.md", ROOT / "tests" / "chaos"
BEGIN, END = "<!-- faults: written by bench.chaos -->\n", "<!-- end of faults -->\n"
HEAD = (
    "| fault | webhooks | controller | requests meanwhile | as before after | lost |\n"
    "|---|---|---|---|---|---|\n"
)
PODS = 10_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.chaos", description=__doc__)
    parser.add_argument("--pods", type=int, default=PODS, help="how many are made at once")
    parser.add_argument("--write", action="store_true", help="write the table to the page")
    parser.add_argument("rows", nargs="?", type=Path, help="rows of an earlier run, to print again")
    arguments = parser.parse_args()
    if arguments.rows:
        try:
            code, rows = 0, read(arguments.rows)
        except (OSError, ValueError) as error:
            parser.error(f"{arguments.rows}: holds no rows of a run: {error}")
    else:
        code, rows = run(arguments.pods)
    print(table(rows))
    if arguments.write and not code:
        PAGE.write_text(inserted(PAGE.read_text(), table(rows)))
    return code


def run(pods: int) -> tuple[int, list[dict[str, Any]]]:
    """pytest's exit code, and the rows."""
    with TemporaryDirectory(prefix="batten-chaos-") as folder:
        file = Path(folder, "rows")
        environment = {
            **os.environ,
            "BATTEN_CHAOS_ROWS": str(file),
            "BATTEN_CHAOS_PODS": str(pods),
        }
        files = [
            str(path) for path in sorted(TESTS.glob("test_*.py")) if "@fault(" in path.read_text()
        ]
        command = [sys.executable, "-m", "pytest", "-q", *files]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        return code, read(file) if file.exists() else []


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def table(rows: Iterable[dict[str, Any]]) -> str:
    """In the order of the tests."""
    return HEAD + "".join(
        f"| {row['name']} | {row['webhooks']} | {row['controller']} | {row['meanwhile'] or '—'} |"
        f" {row['seconds']:g} s | {row['lost']} |\n"
        for row in rows
    )


def inserted(page: str, content: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{content}{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
