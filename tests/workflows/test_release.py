"""What release.yml runs is run here: bash, make, git, helm, batten, cosign and a registry are real.

docker and Trivy are stood in for: the one has nobody to build for two platforms with, the other has
no database here. GitHub's own actions, its identity and Sigstore are not to be had either: a key
signs instead.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_command import BATTEN
from batten_cosign import Pair, cosign, key_pair, why_no_cosign
from batten_e2e import run
from batten_image import VERSION
from batten_registry import Pushed, Registry, registry
from batten_tools import helm

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.load(  # `on` stays a word
    (ROOT / ".github" / "workflows" / "release.yml").read_text(),
    yaml.BaseLoader,  # noqa: S506
)
SUPPORT = ROOT / "tests" / "support"
PLATFORMS = ("amd64", "arm64")
SHAPE = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(SUPPORT)!r})\n"
DOCKER = """\
from batten_registry import OCI_INDEX, Registry
served = Registry({host!r}, None, "anybody", None, None)
repository, _, digest = sys.argv[-1].removeprefix("{host}/").partition("@")
data = served.manifest(repository, digest)
if sys.argv[1:5] == ["buildx", "imagetools", "inspect", "--raw"]:
    sys.stdout.buffer.write(data)
else:
    assert sys.argv[1:5] == ["buildx", "imagetools", "create", "--tag"], sys.argv
    served.put(repository, sys.argv[5].rpartition(":")[2], data, OCI_INDEX)
"""
TRIVY = """\
import json
from batten_evidence import CRITICAL, LOW, configuration, trivy
from batten_registry import Registry
served = Registry({host!r}, None, "anybody", None, None)
assert sys.argv[1:3] == ["image", "--format"] and sys.argv[4] == "--output", sys.argv
kind, file, image = sys.argv[3], sys.argv[5], sys.argv[6]
repository, _, digest = image.removeprefix("{host}/").partition("@")
config = configuration(served, repository, digest)
found = [LOW, CRITICAL][:{found}]
value = trivy(image, *found, config=config, repository_digests=(image,))
with open(file, "w") as opened:
    json.dump(value if kind == "json" else {{"bomFormat": "CycloneDX", "components": []}}, opened)
"""


@dataclass
class Runner:
    """A machine of GitHub's, with the repository's tree in `folder`."""

    folder: Path
    served: Registry
    pair: Pair
    output: dict[str, str] = field(default_factory=dict)

    @property
    def image(self) -> str:
        return f"{self.served.host}/batten-dev/batten"

    def program(self, name: str, text: str) -> None:
        file = self.folder / ".programs" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def prepare(self, found: int) -> None:
        host = self.served.host
        self.program("docker", SHAPE + DOCKER.format(host=host))
        self.program("trivy", SHAPE + TRIVY.format(host=host, found=found))
        # The registry of the tests has no TLS, and is on this machine.
        asking = f"--local-registry={host} --plain-http={host}"
        command = f'case "$2" in check) set -- "$@" {asking};; esac\nexec {BATTEN} "$@"\n'
        self.program("batten", f"#!/bin/sh\n{command}")
        # A key in place of the workflow's identity, and no public log.
        signing = self.folder / ".signing.json"
        subprocess.run(
            [cosign(3), "signing-config", "create", "--out", str(signing)], check=True, timeout=60
        )
        local = f"--allow-http-registry --signing-config={signing} --key={self.pair.key}"
        self.program("cosign", f'#!/bin/sh\nexec {cosign(3)} "$@" {local}\n')
        command = f'case "$1" in push) set -- "$@" --plain-http;; esac\nexec {helm()} "$@"\n'
        self.program("helm", f"#!/bin/sh\n{command}")

    def run(self, job: str, step: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """As runners do: bash, which ends at the first command that fails."""
        (found,) = (each for each in WORKFLOW["jobs"][job]["steps"] if each.get("name") == step)
        output = self.folder / ".output"
        output.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", found["run"]],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{self.folder / '.programs'}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(self.folder),
                "GITHUB_OUTPUT": str(output),
                "COSIGN_PASSWORD": "",
                "IMAGE": self.image,
                "CHARTS": f"{self.image}/charts",
                "VERSION": VERSION,
                "NO_COLOR": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.output = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return done

    def verified(self, *arguments: str) -> list[Any]:
        """What cosign says that the key has signed, of a reference."""
        done = run(
            cosign(3),
            *arguments,
            f"--key={self.pair.key.with_suffix('.pub')}",
            "--allow-http-registry",
            "--insecure-ignore-tlog",
            "--output=json",
        )
        assert done.code == 0, done.stderr
        return [
            json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", "{"))
        ]


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    if why_no_cosign():
        pytest.skip(why_no_cosign())
    for name in ("charts", "deploy", ".github"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    with registry(tmp_path / ".registry") as served:
        yield Runner(tmp_path, served, key_pair(tmp_path / ".keys", "p256"))


def pushed(runner: Runner) -> Pushed:
    """What `docker/build-push-action` leaves behind, but for its tag."""
    return runner.served.push("batten-dev/batten", "by-digest", platforms=PLATFORMS, User="65532")


@pytest.mark.parametrize(("tag", "code"), [(f"v{VERSION}", 0), ("v9.9.9", 1), (VERSION, 1)])
def test_a_tag_is_the_version(runner: Runner, tag: str, code: int) -> None:
    git = ("git", "-C", str(runner.folder), "-c", "user.name=t", "-c", "user.email=t@example.com")
    run("git", "init", "--quiet", str(runner.folder)).require()
    run(*git, "commit", "--quiet", "--allow-empty", "--message=a").require()
    done = runner.run("dist", "Check the tag", TAG=tag)
    assert done.returncode == code, done.stderr
    assert runner.output.get("version") == (VERSION if code == 0 else None)
    assert bool(re.fullmatch(r"\d{10}", runner.output.get("epoch", ""))) == (code == 0)


def test_what_was_scanned_is_signed_and_attested_and_tagged(runner: Runner) -> None:
    runner.prepare(found=1)
    image = pushed(runner)
    for step in ("Scan", "Check", "Sign, and attest what is in it and what was found", "Tag"):
        done = runner.run("image", step, DIGEST=image.digest)
        assert done.returncode == 0, done.stdout + done.stderr
    assert runner.verified("verify", f"{runner.image}@{image.digest}")
    for architecture in PLATFORMS:
        reference = f"{runner.image}@{image.platforms[architecture]}"
        assert runner.verified("verify", reference)
        for kind in ("vuln", "cyclonedx"):
            assert runner.verified("verify-attestation", f"--type={kind}", reference)
        scan = yaml.safe_load((runner.folder / f"imagescan.{architecture}.yaml").read_text())
        assert scan["kind"] == "ImageScan"
        assert scan["metadata"]["name"] == f"batten-{VERSION}-{architecture}"
        assert {image.digest, image.platforms[architecture]} <= set(digests(scan))
    assert runner.served.manifest("batten-dev/batten", VERSION)


def digests(scan: dict[str, Any]) -> list[str]:
    return re.findall(r"sha256:[0-9a-f]{64}", json.dumps(scan))


def test_what_does_not_pass_is_not_released(runner: Runner) -> None:
    runner.prepare(found=2)
    image = pushed(runner)
    assert runner.run("image", "Scan", DIGEST=image.digest).returncode == 0
    done = runner.run("image", "Check", DIGEST=image.digest)
    assert done.returncode == 1
    assert (
        "may not run: has a vulnerability that does not pass: CRITICAL CVE-2026-1000" in done.stdout
    )


def test_the_chart_is_for_the_image_of_the_release(runner: Runner) -> None:
    runner.prepare(found=1)
    digest = f"sha256:{'1' * 64}"
    for step in ("Package", "Push and sign"):
        done = runner.run("chart", step, DIGEST=digest)
        assert done.returncode == 0, done.stdout + done.stderr
    reference = f"{runner.image}:{VERSION}@{digest}"
    (package,) = (runner.folder / "dist").glob("*.tgz")
    rendered = run(
        helm(), "template", "batten", str(package), "--namespace=batten-system"
    ).require()
    install = (runner.folder / "dist" / "install.yaml").read_text()
    for text in (rendered.stdout, install):
        images = set(re.findall(r"^ +(?:- )?image: (\S+)", text, re.MULTILINE))
        assert {each for each in images if "trivy" not in each} == {reference}
    charts = f"{runner.image}/charts/batten"
    data = runner.served.manifest("batten-dev/batten/charts/batten", VERSION)
    assert json.loads(data)["config"]["mediaType"] == "application/vnd.cncf.helm.config.v1+json"
    assert runner.verified("verify", f"{charts}:{VERSION}")


def test_nothing_is_released_before_everything_was_checked() -> None:
    needs = {name: job.get("needs", []) for name, job in WORKFLOW["jobs"].items()}
    assert set(needs["pypi"]) == {"dist", "image", "chart"}
    assert set(needs["github"]) == {"dist", "image", "chart", "pypi"}
    steps = [each.get("name", "") for each in WORKFLOW["jobs"]["image"]["steps"]]
    assert steps.index("Check") < steps.index("Sign, and attest what is in it and what was found")
    assert steps.index("Check") < steps.index("Tag")
    (build,) = (each for each in WORKFLOW["jobs"]["image"]["steps"] if each.get("id") == "build")
    assert "push-by-digest=true" in build["with"]["outputs"]
    assert "tags" not in build["with"]
