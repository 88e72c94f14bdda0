""".github/workflows: valid, every action by its commit, and no right that a job has no use for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from batten_e2e import run
from batten_schemas import published_schema
from batten_tools import VERSIONS, actionlint

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
NAMES = ("ci", "release")
SCHEMA = "https://json.schemastore.org/github-workflow.json"
READS = {"contents": "read"}
# What each job may do with the repository, its packages and its identity.
RIGHTS = {
    "ci": {"test": READS, "kubernetes": READS, "audit": READS},
    "release": {
        "dist": READS,
        "image": {**READS, "packages": "write", "id-token": "write", "attestations": "write"},
        "chart": {**READS, "packages": "write", "id-token": "write"},
        "pypi": {"id-token": "write"},
        "github": {"contents": "write"},
    },
}


def text(name: str) -> str:
    return (FOLDER / f"{name}.yml").read_text()


def workflow(name: str) -> Any:
    return yaml.safe_load(re.sub("^on:", '"on":', text(name), flags=re.MULTILINE))


def test_all_of_them_are_known() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_github_understands_it(name: str) -> None:
    """But for rights, of which this schema knows few: they are compared below."""
    value = workflow(name)
    for each in (value, *value["jobs"].values()):
        del each["permissions"]
    jsonschema.validate(value, published_schema(SCHEMA))


@pytest.mark.parametrize("name", NAMES)
def test_actionlint_finds_nothing(name: str) -> None:
    linted = run(
        actionlint(), "-no-color", "-shellcheck=", "-pyflakes=", str(FOLDER / f"{name}.yml")
    )
    assert (linted.code, linted.stdout) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_named_by_their_commits(name: str) -> None:
    used = re.findall(r"uses: (.*)", text(name))
    assert used
    assert [each for each in used if not re.fullmatch(r"\S+@[0-9a-f]{40} # v[\d.]+", each)] == []


def test_an_action_is_of_one_commit_wherever_it_is_used() -> None:
    used = {
        tuple(each.split("@")) for name in NAMES for each in re.findall(r"uses: (.*)", text(name))
    }
    assert len(used) == len({action for action, _ in used})


@pytest.mark.parametrize("name", NAMES)
def test_jobs_have_the_rights_that_they_need(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {}
    assert {job: value["permissions"] for job, value in found["jobs"].items()} == RIGHTS[name]
    assert all(value["timeout-minutes"] <= 90 for value in found["jobs"].values())


@pytest.mark.parametrize("name", NAMES)
def test_no_word_of_others_is_run(name: str) -> None:
    """An expression in a script is put there before the shell reads it."""
    scripts = [
        step["run"]
        for job in workflow(name)["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert scripts
    assert not [script for script in scripts if "${{" in script]


def test_every_version_is_tested() -> None:
    jobs = workflow("ci")["jobs"]
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert jobs["test"]["strategy"]["matrix"]["python"] == named
    assert jobs["kubernetes"]["strategy"]["matrix"]["version"] == sorted(VERSIONS)
