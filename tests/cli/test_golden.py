"""What the command prints, word for word, for every folder of `golden/`.

`BATTEN_UPDATE_GOLDENS=1 make test` writes the files anew; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from batten_command import batten_inside

CASES = sorted((Path(__file__).parent / "golden").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_transcript(case: Path) -> None:
    golden = case / "expected.txt"
    commands = [line for line in golden.read_text().splitlines() if line.startswith("$ batten ")]
    assert commands
    transcript = "\n".join(_run(command, case) for command in commands)
    if os.environ.get("BATTEN_UPDATE_GOLDENS"):
        golden.write_text(transcript)
    assert transcript == golden.read_text()


def _run(command: str, case: Path) -> str:
    ran = batten_inside(*command.split()[2:], cwd=case)
    return f"{command}\n{ran.out}{ran.err}exit {ran.code}\n"
