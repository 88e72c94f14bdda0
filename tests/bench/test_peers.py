"""The comparison with others still runs, as far as it needs no long builds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from batten_tools import DEFAULT_VERSION, ToolError, control_plane, peer

ROOT = Path(__file__).parents[2]


@pytest.mark.cluster
def test_the_quick_run_measures_batten_and_the_null_webhook(tmp_path: Path) -> None:
    try:
        control_plane(DEFAULT_VERSION)
        peer("", "./null", build=True)
    except ToolError as error:
        pytest.skip(f"the API server or the null webhook cannot be built: {error}")
    output = tmp_path / "results.json"
    arguments = ("--quick", "--only=null,batten", f"--output={output}")
    done = subprocess.run(
        [sys.executable, "-m", "bench.peers", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(output.read_text())
    assert set(results["checks"]["batten"].values()) == {"yes"}
    for name in ("null", "batten"):
        for webhook in ("mutate", "validate"):
            assert results["straight"][name][webhook]["rate"] > 0
        assert all(value >= 0 for by in results["growth"].values() for value in by[name].values())
    assert any(each["contender"] == "batten" and each["p99"] for each in results["applied"])


def test_what_is_not_known_or_not_built_is_told_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.peers", "--only=polaris"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("bench.peers: --only polaris: is none of null, batten, ")
