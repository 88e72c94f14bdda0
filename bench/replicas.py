"""`python -m bench.replicas`: what replicas that come and go cost, measured on the kind cluster, as
a table in docs/operations.md. `make kind` first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operations.md"
START, END = "<!-- bench.replicas -->\n", "<!-- /bench.replicas -->\n"
TESTS = "tests/chaos/test_replicas.py"
HEAD = (
    "| what happens | Pods/s | hardened | refused | failed or held | let in unhardened or unsafe "
    "| p50 / p99 ms | until all is well |\n|---|---|---|---|---|---|---|---|\n"
)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="batten-") as folder:
        rows = Path(folder, "rows")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", TESTS, *sys.argv[1:]],
            cwd=ROOT,
            env={**os.environ, "BATTEN_KIND": "1", "BATTEN_REPLICAS_ROWS": str(rows)},
            check=False,
        )
        measured = [json.loads(line) for line in rows.read_text().splitlines()]
    table = HEAD + "".join(line(row) for row in measured)
    print(table)
    if not done.returncode:
        before, _, rest = PAGE.read_text().partition(START)
        PAGE.write_text(f"{before}{START}{table}{END}{rest.partition(END)[2]}")
    return done.returncode


def line(row: Mapping[str, Any]) -> str:
    """One row of the table, as tests/chaos/test_replicas.py measured it."""
    seconds = "nothing was wrong" if row["seconds"] is None else f"{row['seconds']} s"
    cells = (
        row["what"],
        row["rate"],
        row["hardened"],
        row["refused"],
        row["failed"] + row["held"],
        row["unhardened"] + row["let in"],
        f"{row['p50']} / {row['p99']}",
        seconds,
    )
    return f"| {' | '.join(map(str, cells))} |\n"


if __name__ == "__main__":
    sys.exit(main())
