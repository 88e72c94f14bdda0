"""docs/pipelines: valid for their hosts, and what they run is run here.

docker and trivy are stood in for, as neither is to be had: `docker` makes an image of a few bytes,
which it pushes to a real registry, and `trivy` writes what Trivy writes of such an image. bash,
batten, cosign and its signatures are real.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from batten_command import BATTEN
from batten_corpus import ROOT
from batten_cosign import Pair, cosign, key_pair, why_no_cosign
from batten_registry import Registry, registry
from batten_schemas import published_schema

PIPELINES = ROOT / "docs" / "pipelines"
GITHUB, GITLAB = (
    yaml.load((PIPELINES / name).read_text(), yaml.BaseLoader)  # noqa: S506 - `on` stays a word
    for name in ("github-actions.yaml", "gitlab-ci.yaml")
)
SCHEMAS = {
    "github": "https://json.schemastore.org/github-workflow.json",
    "gitlab": "https://gitlab.com/gitlab-org/gitlab/-/raw/master/app/assets/javascripts/editor/"
    "schema/ci.json",
}
SUPPORT = ROOT / "tests" / "support"
IMAGE = "shop/app:ci"
# `docker build` keeps the image where only it looks for it, `docker push` brings it to its place.
DOCKER = """\
import sys
from pathlib import Path
from batten_registry import Registry
served = Registry({host!r}, None, "anybody", None, None)
command, image = sys.argv[1], sys.argv[-1] if sys.argv[1] != "build" else sys.argv[3]
repository, tag = image.removeprefix({host!r} + "/").rsplit(":", 1)
def make(place):
    return served.push(place, tag, User="1000").platforms["amd64"]
if command == "build":
    make("local/images")
elif command == "push":
    Path("digest").write_text(make(repository))
else:
    assert command == "inspect", command
    print({host!r} + "/" + repository + "@" + Path("digest").read_text())
"""
TRIVY = """\
import json, sys
from batten_evidence import CRITICAL, LOW, configuration, trivy
from batten_registry import Registry
served = Registry({host!r}, None, "anybody", None, None)
assert sys.argv[1:5] == ["image", "--format", "json", "--output"], sys.argv
image = sys.argv[6]
index = json.loads(served.manifest("local/images", image.rsplit(":", 1)[1]))
config = configuration(served, "local/images", index["manifests"][0]["digest"])
found = [LOW, CRITICAL][:{found}]
with open(sys.argv[5], "w") as file:
    json.dump(trivy(image, *found, config=config), file)
"""


@dataclass
class Runner:
    """A machine of the pipeline's host, with its programs on PATH."""

    folder: Path
    served: Registry
    pair: Pair

    def program(self, name: str, text: str) -> None:
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def prepare(self, found: int) -> None:
        host = self.served.host
        for name, text in (("docker", DOCKER), ("trivy", TRIVY)):
            code = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(SUPPORT)!r})\n"
            self.program(name, code + text.format(host=host, found=found))
        # The registry of the tests has no TLS, and is on this machine.
        local = f"--local-registry={host} --plain-http={host}"
        self.program("batten", f'#!/bin/sh\nexec {BATTEN} "$@" {local}\n')
        http = 'case "$1" in attest) set -- "$@" --allow-http-registry; esac'
        self.program("cosign", f'#!/bin/sh\n{http}\nexec {cosign(3)} "$@"\n')
        policy = {
            "apiVersion": "batten.dev/v1alpha1",
            "kind": "HardeningPolicy",
            "metadata": {"name": "scanned"},
            "spec": {
                "rules": {
                    "scanned-image": {
                        "validationActions": ["Deny"],
                        "sources": [{"kind": "Attestation", "keys": [self.pair.public]}],
                    }
                }
            },
        }
        (self.folder / "policy.yaml").write_text(yaml.safe_dump(policy))

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """As runners do: bash, which ends at the first command that fails."""
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "IMAGE": f"{self.served.host}/{IMAGE}",
            "COSIGN_PRIVATE_KEY": self.pair.key.read_text(),
            "COSIGN_PASSWORD": "",
            "NO_COLOR": "1",
        }
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    if why_no_cosign():
        pytest.skip(why_no_cosign())
    with registry(tmp_path / "registry") as served:
        yield Runner(tmp_path, served, key_pair(tmp_path / "keys", "p256"))


def scripts(pipeline: str) -> list[str]:
    """What is run after everything is installed, one for each step."""
    if pipeline == "gitlab":
        return ["\n".join(GITLAB["publish"]["script"])]
    steps = GITHUB["jobs"]["image"]["steps"]
    first = next(number for number, step in enumerate(steps) if step.get("name") == "Build")
    return [step["run"] for step in steps[first:]]


def run(runner: Runner, pipeline: str) -> tuple[int, str]:
    """The steps up to the first that fails, and all that they print."""
    told = ""
    for script in scripts(pipeline):
        done = runner.run(script)
        told += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, told
    return 0, told


def workflow() -> Any:
    """With the numbers and booleans that the schema wants."""
    return yaml.safe_load(re.sub("^on:", '"on":', _text("github-actions.yaml"), flags=re.MULTILINE))


def _text(name: str) -> str:
    return (PIPELINES / name).read_text()


@pytest.mark.parametrize(
    ("pipeline", "value"),
    [("github", workflow()), ("gitlab", yaml.safe_load(_text("gitlab-ci.yaml")))],
    ids=["github", "gitlab"],
)
def test_the_host_understands_it(pipeline: str, value: Any) -> None:
    jsonschema.validate(value, published_schema(SCHEMAS[pipeline]))


@pytest.mark.parametrize("pipeline", ["github", "gitlab"])
def test_what_passes_is_pushed_and_its_scan_is_found_by_a_cluster(
    runner: Runner, pipeline: str
) -> None:
    runner.prepare(found=1)
    code, told = run(runner, pipeline)
    assert code == 0, told
    assert "  may run: file trivy.json was made 2 hours ago\n" in told
    assert re.search(r"  may run: attestation sha256:[0-9a-f]{12}… was made 2 hours ago\n", told)
    assert runner.served.manifest("shop/app", "ci")


@pytest.mark.parametrize("pipeline", ["github", "gitlab"])
def test_what_does_not_pass_is_not_pushed(runner: Runner, pipeline: str) -> None:
    runner.prepare(found=2)
    code, told = run(runner, pipeline)
    assert code == 1
    assert "may not run: has a vulnerability that does not pass: CRITICAL CVE-2026-1000" in told
    assert "PUT /v2/shop/app" not in runner.served.log.read_text()


def test_another_key_than_the_policys_is_noticed_at_once(runner: Runner) -> None:
    runner.prepare(found=1)
    runner.pair = key_pair(runner.folder / "other", "p256")
    code, told = run(runner, "github")
    assert code == 1
    assert "is not signed with the trusted key" in told
