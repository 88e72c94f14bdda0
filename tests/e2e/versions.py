"""Run the end-to-end tests on every Kubernetes version that Batten knows, or on those that are
named, and note what came out in versions.json, from which docs/generate.py writes a table.

    python tests/e2e/versions.py [1.35 …]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_tools import VERSIONS, ToolError, control_plane, full_version, say

HERE = Path(__file__).parent
RESULTS = HERE / "versions.json"


def main() -> int:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    failed = False
    try:
        for version in sys.argv[1:] or sorted(VERSIONS):
            number = f"v{full_version(version)}"
            control_plane(version)
            say(f"the end-to-end tests on Kubernetes {number}")
            results[number] = _run(version)
            say(f"Kubernetes {number}: {results[number]}")
            failed |= bool(results[number]["failed"])
            RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=2) + "\n")
    except ToolError as error:
        say(str(error))
        return 1
    return int(failed)


def _run(version: str) -> dict[str, int | str]:
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report.name}", str(HERE)],
            check=False,
            env={**os.environ, "KUBERNETES_VERSION": version},
        )
        suite = ElementTree.parse(report.name).getroot()[0]  # noqa: S314
    tests, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return {
        "passed": tests - skipped - failed,
        "skipped": skipped,
        "failed": failed,
        "seconds": round(float(suite.attrib["time"])),
        "date": datetime.now(UTC).date().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
