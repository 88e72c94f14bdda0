"""The comparison with others: the page says what was measured, and the benchmark still runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from batten_tools import DEFAULT_VERSION, PEERS, ToolError, control_plane, peer, required_version

from bench.peers import page
from bench.peers.contenders import CONTENDERS
from bench.peers.programs import GATEKEEPER, KYVERNO

ROOT = Path(__file__).parents[2]


def test_the_page_says_what_was_measured() -> None:
    text = page.PAGE.read_text()
    written = page.written(text, json.loads(page.RESULTS.read_text()))
    assert written == text, "run python -m bench.peers.page"


def test_the_page_shows_plots_that_are_there_and_none_else() -> None:
    shown = set(re.findall(r"\(performance/(\w+\.svg)\)", page.PAGE.read_text()))
    assert shown == {path.name for path in page.PLOTS.iterdir()}
    for name in shown:
        root = ElementTree.parse(page.PLOTS / name).getroot()  # noqa: S314 - our own
        assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_all_were_measured_and_the_versions_are_those_that_would_be_built() -> None:
    results = json.loads(page.RESULTS.read_text())
    assert list(results["contenders"]) == [each.name for each in CONTENDERS]
    for name, module in (("gatekeeper", GATEKEEPER), ("kyverno", KYVERNO)):
        assert results["versions"][name] == required_version(PEERS, module) != "unknown"


def test_a_page_of_other_results_is_another_page() -> None:
    results = json.loads(page.RESULTS.read_text())
    results["straight"]["batten"]["mutate"]["cpu_us"] *= 100
    text = page.written(page.PAGE.read_text(), results)
    assert text != page.PAGE.read_text()
    assert "**not met**" in text


def test_latencies_are_told_where_the_machine_had_room() -> None:
    results = json.loads(page.RESULTS.read_text())
    one = {"replicas": 1, "rate": 100, "reached": [100.0], "cpu": [500], "failed": 0}
    results["applied"] = [
        {"contender": name, **one, "p50": [5.0 + added], "p99": [9.0 + 2 * added]}
        for name, added in (("none", 0), ("null", 2), ("batten", 3))
    ]
    text = page.figures(results)
    assert "| 1.5 times: 6.0 ms against 4.0 ms | met |" in text
    assert "| Batten | 1 | 3.0 / 6.0 ms, 0.0 ms CPU |" in text


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


def test_who_is_not_known_is_told_in_one_line() -> None:
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
