"""The kind cluster's machinery, as far as it needs neither Docker nor minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import batten_docker
import batten_kind
import pytest
from batten_docker import Docker, docker, why_no_docker
from batten_kind import ASKED_VARIABLE, why_no_kind
from batten_tools import ToolError

SCRIPT = Path(__file__).with_name("kind.py")
Clients = Callable[[str], None]


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    """A `docker` command that does this, and nothing else of it on PATH; nobody is root."""

    def make(script: str) -> None:
        path = tmp_path / "docker"
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(batten_docker, "RUN", tmp_path / "run")
    return make


def test_a_daemon_that_answers_is_taken(clients: Clients) -> None:
    clients("echo 28.2.2")
    assert why_no_docker() == ""
    assert docker() == Docker({})


def test_a_daemon_that_does_not_run_is_told_of_in_its_words(clients: Clients) -> None:
    clients("echo Cannot connect to the Docker daemon at unix:///x.sock >&2; exit 1")
    told = "Cannot connect to the Docker daemon at unix:///x.sock"
    own = "and none of our own is started: only root may run its daemon"
    assert why_no_docker() == f"{told}, {own}"
    with pytest.raises(ToolError, match=f"kind needs Docker: {told}; {own}"):
        docker()


def test_a_daemon_that_hangs_is_not_waited_for(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients("exec sleep 60")
    monkeypatch.setattr(batten_docker, "ANSWER_SECONDS", 1)
    assert "its daemon does not answer within 1 s" in why_no_docker()


def test_a_machine_that_lacks_programs_names_them(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients("exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(batten_docker, "NEEDED", ("runc", "no-such-program"))
    assert why_no_docker().endswith("none of our own is started: no-such-program missing")


def test_minutes_are_spent_only_where_asked_for(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients("exit 1")
    monkeypatch.delenv(ASKED_VARIABLE, raising=False)
    assert (
        why_no_kind() == "a kind cluster takes minutes: `make kind`, or BATTEN_KIND=1, asks for it"
    )
    monkeypatch.setenv(ASKED_VARIABLE, "1")
    assert why_no_kind() == why_no_docker()


def test_a_node_image_that_is_named_is_taken_as_it_is(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients("exit 1")
    monkeypatch.setenv(batten_kind.IMAGE_VARIABLE, "kindest/node:v1.36.1")
    assert batten_kind.chosen_image(Docker({})) == "kindest/node:v1.36.1"


@pytest.mark.parametrize("command", ["up", "down"])
def test_the_scripts_say_in_one_line_why_they_cannot(command: str, tmp_path: Path) -> None:
    """As somebody who is not root, on a machine without Docker."""
    code = (
        "import os, sys, runpy\n"
        "os.geteuid = lambda: 1000\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT), command],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("cluster: ")
    assert "Docker" in done.stderr
