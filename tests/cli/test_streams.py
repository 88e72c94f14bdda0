"""Streams that are closed, full, narrow or gone, and a user who stops it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from batten_command import BATTEN, DEFECT

POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: café}\n"
    "spec: {containers: [{name: a, image: 'a:1'}]}\n"
)


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    (tmp_path / "pod.yaml").write_text(POD, encoding="utf-8")
    return tmp_path


def shell(line: str, cwd: Path, **environment: str) -> tuple[int, str]:
    """The exit code and what came out, of a line of bash in which $B is the command."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=cwd,
        env={**os.environ, "B": str(BATTEN), **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert not DEFECT.search(text), text
    return done.returncode, text


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$B check pod.yaml >&-", 1),
        ("$B check pod.yaml 2>&-", 1),
        ("$B check - <&-", 2),
        ("$B harden - <&-", 2),
        ("$B review --webhook mutate <&-", 2),
        ("$B check pod.yaml > /dev/full", 2),
        ("$B check --format=json pod.yaml > /dev/full", 2),
        ("$B harden pod.yaml > /dev/full", 2),
        ("$B harden --write pod.yaml 2> /dev/full", 2),
        ("$B check none.yaml 2> /dev/full", 2),
        ("$B explain > /dev/full", 2),
        ("$B check --help | true", 0),
        ("set +o pipefail; $B explain probes | head -1", 0),
        ("$B check pod.yaml 2> >(true)", 128 + signal.SIGPIPE),
    ],
)
def test_odd_streams(line: str, code: int, pod: Path) -> None:
    assert shell(line, pod)[0] == code


@pytest.mark.parametrize("kind", ["text", "json", "sarif", "junit", "github"])
def test_any_locale_will_do(kind: str, pod: Path) -> None:
    code, text = shell(
        f"$B check --format={kind} pod.yaml",
        pod,
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        PYTHONIOENCODING="ascii",
    )
    assert code == 1
    assert ("caf\\xe9" if kind in ("text", "github") else "café") in text


@pytest.mark.parametrize("arguments", [["check", "-"], ["review", "--webhook=validate"]])
def test_interrupted(arguments: list[str]) -> None:
    process = subprocess.Popen(
        [BATTEN, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"apiVersion: v1\n" * 10_000)  # read once it has started
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert not DEFECT.search((out + err).decode())
