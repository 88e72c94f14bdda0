"""What a person at a terminal sees, through a real one."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from batten_command import BATTEN, batten

POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: 'a:1'}]}"
)
RED = "\x1b[1;31m"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(60):
        (tmp_path / f"{number:02}.yaml").write_text(POD)
    return tmp_path


def on_a_terminal(*arguments: str, cwd: Path, **environment: str) -> str:
    """Everything that is shown."""
    ours, theirs = pty.openpty()
    known = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [BATTEN, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**known, **environment},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # what Linux says when the other side has gone
            data = b""
        if not data:
            break
        shown += data
    os.close(ours)
    process.wait(timeout=30)
    return shown.decode()


def test_colour_on_a_terminal(many: Path) -> None:
    assert f"{RED}error[run-as-non-root]" in on_a_terminal("check", "00.yaml", cwd=many)
    assert RED not in on_a_terminal("check", "00.yaml", cwd=many, NO_COLOR="1")
    assert RED not in on_a_terminal("check", "--color=never", "00.yaml", cwd=many)
    assert RED not in batten("check", "00.yaml", cwd=many).out
    assert RED in batten("check", "--color=always", "00.yaml", cwd=many).out


def test_progress_on_a_terminal(many: Path) -> None:
    shown = on_a_terminal("check", ".", cwd=many)
    assert "\r0 of 60 files" in shown
    assert "\r50 of 60 files" in shown
    assert shown.index("\r50 of 60 files\r\x1b[K") < shown.index("error[")
    assert "of 60 files" not in batten("check", ".", cwd=many).err
    assert "of 60 files" not in on_a_terminal("check", "00.yaml", "01.yaml", cwd=many)


def test_progress_leaves_lines_whole(many: Path) -> None:
    shown = on_a_terminal("harden", "--write", ".", cwd=many)
    assert shown.replace("\r\n", "\n").count("\x1b[Khardened ") == 60


def test_hostile_text_reaches_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(
        'apiVersion: v1\nkind: Pod\nmetadata: {name: "\\e]0;x\\a"}\n'
        'spec: {containers: [{name: "\\e[2J", image: "\\u202e:latest", securityContext: '
        "{privileged: true}}]}  # \u202e\n"
    )
    shown = on_a_terminal("check", "--color=never", "pod.yaml", cwd=tmp_path)
    assert "error[" in shown
    assert not set(shown) & set("\x1b\a\u009b\u202e")
