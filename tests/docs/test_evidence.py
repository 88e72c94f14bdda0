"""docs/evidence.md: its commands print what it shows, on a real registry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from batten_command import batten
from batten_corpus import ROOT
from batten_evidence import CRITICAL, LOW, openvex, trivy_of, written
from batten_registry import Registry, registry

from batten_webhooks.resources import read_policy
from batten_webhooks.resources.image_scan import read_image_scan

PAGE = (ROOT / "docs" / "evidence.md").read_text()
FLAGS = re.MULTILINE | re.DOTALL
SHOWN = re.findall(r"^```text\n> (batten evidence [^\n]*)\n(.*?)^```", PAGE, FLAGS)
YAML = re.findall(r"^```yaml\n(.*?)^```", PAGE, FLAGS)
# What differs each time: when it is, and how old that makes things.
CHANGING = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\d+ (?:days|hours|minutes)(?= ago| old)")


@dataclass
class World:
    folder: Path
    served: Registry

    def run(self, command: str) -> str:
        """What it prints, as if the registry were registry.example."""
        host = self.served.host
        local = (f"--local-registry={host}", f"--plain-http={host}")
        words = command.replace("registry.example", host).split()[1:]
        ran = batten(*words, *local, cwd=self.folder)
        assert ran.code in (0, 1), ran.err
        return ran.out.replace(host, "registry.example")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("evidence")
    with registry(folder / "registry") as served:
        pushed = served.push("shop/app", "1.4", User="1000")
        written(folder, "trivy.json", trivy_of(served, "shop/app:1.4", pushed, CRITICAL, LOW))
        at = "2026-01-01T00:00:00Z"
        written(folder, "old.json", trivy_of(served, "shop/app:1.4", pushed, at=at))
        written(folder, "vex.json", openvex(pushed.digest))
        (folder / "policy.yaml").write_text(YAML[0])
        yield World(folder, served)


def test_there_are_commands() -> None:
    assert len(SHOWN) == 4


@pytest.mark.parametrize(("command", "shown"), SHOWN)
def test_commands_print_what_is_shown(world: World, command: str, shown: str) -> None:
    told = CHANGING.sub("TIME", world.run(command))
    assert told == CHANGING.sub("TIME", shown)


def test_the_image_scan_is_one() -> None:
    (shown,) = (text for command, text in SHOWN if "evidence from" in command)
    assert read_image_scan(yaml.safe_load(shown)).evidence is not None


def test_its_policies_are_policies() -> None:
    policy, *sources = (yaml.safe_load(text) for text in YAML)
    for each in sources:
        rule = policy["spec"]["rules"]["scanned-image"]
        read_policy({**policy, "spec": {"rules": {"scanned-image": rule | each}}})


def test_its_refusals_are_ours() -> None:
    """As far as they have no numbers or names in them."""
    table = PAGE.partition("| it says |")[2].partition("\n\n")[0]
    folder = ROOT / "webhooks" / "batten_webhooks"
    files = [*(folder / "evidence").rglob("*.py"), folder / "rules" / "scanned_image.py"]
    files.append(folder / "cli" / "evidence_judge.py")
    code = " ".join(file.read_text() for file in files)
    code = re.sub(r'"\s*f?"', "", code)
    said = re.findall(r"^\| `([^`]*)`", table, re.MULTILINE)
    assert len(said) > 10
    for sentence in said:
        words = re.split(r"\d+ \w+|…|the trusted key|that do|linux/\S+(?:, linux/\S+)*", sentence)
        for part in words:
            assert part.strip(" ,:").removeprefix("what is beside the image ") in code, sentence
