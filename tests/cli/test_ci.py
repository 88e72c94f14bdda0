"""The GitHub Action and the pre-commit hooks are what their hosts expect, and do their work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from batten_command import BATTEN, batten
from batten_corpus import ROOT
from batten_schemas import published_schema

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: 'a:1'}]}"
)


def run_check(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The action's step, as a runner would run it, with the command that is installed here."""
    installed = folder / "runner" / "batten" / "bin" / "batten"
    installed.parent.mkdir(parents=True)
    installed.symlink_to(BATTEN)
    step = ACTION["runs"]["steps"][-1]
    given = {name: field["default"] for name, field in ACTION["inputs"].items()} | inputs
    environment = {
        name: given[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, value in step["env"].items()
    }
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={**os.environ, **environment, "RUNNER_TEMP": str(folder / "runner")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for path in ("deploy/pod.yaml", "more files/pod.yaml", "other/pod.yaml"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(POD)
    return tmp_path


def test_the_action_is_valid() -> None:
    jsonschema.validate(ACTION, published_schema("https://json.schemastore.org/github-action.json"))


def test_the_page_tells_every_input() -> None:
    rows = re.findall(
        r"^\| `(.+?)` \| (?:`(.+?)`)? ?\|", (ROOT / "docs" / "ci.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == {name: field["default"] for name, field in ACTION["inputs"].items()}


def test_the_action_annotates(checkout: Path) -> None:
    done = run_check(checkout, paths="deploy\nother")
    assert done.returncode == 1
    files = {line.split("file=")[1].split(",")[0] for line in done.stdout.splitlines()}
    assert files == {"deploy/pod.yaml", "other/pod.yaml"}


def test_the_action_writes_for_code_scanning(checkout: Path) -> None:
    done = run_check(checkout, format="sarif", output="batten.sarif", policy="restricted")
    assert done.returncode == 1
    assert not done.stdout
    assert json.loads((checkout / "batten.sarif").read_text())["version"] == "2.1.0"


def test_the_action_judges_as_admitted(checkout: Path) -> None:
    assert run_check(checkout, **{"as-admitted": "true"}).returncode == 0


def test_the_hooks_are_valid() -> None:
    pre_commit = Path(sys.executable).with_name("pre-commit")
    subprocess.run(
        [pre_commit, "validate-manifest", ROOT / ".pre-commit-hooks.yaml"], cwd=ROOT, check=True
    )


def test_the_hooks_do_their_work(checkout: Path) -> None:
    (checkout / "compose.yaml").write_text("services: {}\n")
    entries = {hook["id"]: hook["entry"].split()[1:] for hook in HOOKS}
    files = ["compose.yaml", "deploy/pod.yaml"]
    assert batten(*entries["batten-check"], *files, cwd=checkout).code == 1
    assert batten(*entries["batten-harden"], *files, cwd=checkout).code == 0
    assert batten(*entries["batten-check"], *files, cwd=checkout).code == 0
