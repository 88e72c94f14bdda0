"""The command starts quickly, because it loads little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: 'a:1'}]}"
)


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    (tmp_path / "pod.yaml").write_text(POD)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["--help"], {"msgspec", "yaml", "pydantic", "importlib.metadata"}),
        (["rules"], {"yaml", "pydantic"}),
        (["check", "pod.yaml"], {"pydantic", "jsonpatch", "asyncio", "importlib.metadata"}),
        (["harden", "pod.yaml"], {"pydantic", "jsonpatch", "asyncio", "importlib.metadata"}),
    ],
    ids=["help", "rules", "check", "harden"],
)
def test_it_loads_no_more_than_it_needs(
    arguments: list[str], unneeded: set[str], pod: Path
) -> None:
    code = (
        "import sys, atexit\n"
        "from batten_webhooks.cli.__main__ import main\n"
        f"code = main({arguments!r})\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=pod, capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert "batten_webhooks.cli" in loaded
    assert not loaded & unneeded
