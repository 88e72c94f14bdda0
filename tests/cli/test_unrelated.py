"""Real files that are no manifests of Kubernetes: told as that, and never as broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from batten_command import batten_inside
from batten_corpus import CORPUS, needs_corpus

REASON = "holds no Kubernetes object (apiVersion and kind)"


def files(folder: str) -> list[Path]:
    needs_corpus()
    found = sorted(path for path in (CORPUS / folder).rglob("*") if path.is_file())
    assert len(found) > 30
    return found


@pytest.mark.parametrize("folder", ["compose", "dockerfiles"])
@pytest.mark.parametrize("command", ["check", "harden"])
def test_named_files_are_refused(folder: str, command: str) -> None:
    paths = files(folder)
    ran = batten_inside(command, *paths, cwd=CORPUS)
    refused = [line for line in ran.err.splitlines() if line.startswith("batten: ")]
    assert refused == [f"batten: {path}: {REASON}" for path in paths]
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize("folder", ["compose", "dockerfiles"])
def test_they_can_be_passed_over(folder: str) -> None:
    paths = files(folder)
    ran = batten_inside("check", "--skip-unrelated", *paths, cwd=CORPUS)
    assert ran.code == 0
    assert f"{len(paths)} skipped" in ran.err


def test_folders_of_them_are_passed_over() -> None:
    found = [path for path in files("compose") if path.suffix in {".yaml", ".yml", ".json"}]
    ran = batten_inside("check", CORPUS / "compose", CORPUS / "dockerfiles", cwd=CORPUS)
    assert ran.code == 0
    assert f"{len(found)} skipped" in ran.err
