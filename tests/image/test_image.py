"""What the image is: small, without a shell, of nobody's user, the same whenever it is built."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from batten_chart import render
from batten_command import batten
from batten_e2e import run
from batten_image import (
    DOCKERFILE,
    NAME,
    PACKAGES,
    ROOT,
    Files,
    build,
    build_context,
    build_wheel,
    config_of,
    docker_pulls,
    files_of,
    operator_image,
    push,
    why_no_image,
)
from batten_registry import registry
from batten_tools import ToolError, trivy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

WHY_NOT = why_no_image()
image = pytest.mark.skipif(bool(WHY_NOT), reason=f"no image of the operator: {WHY_NOT}")
MOST_BYTES = 200_000_000
LABELS = (
    "title",
    "description",
    "version",
    "revision",
    "licenses",
    "url",
    "source",
    "documentation",
)
SHELLS = {"sh", "bash", "dash", "ash", "busybox", "zsh"}
# What installs something, or compiles it.
TOOLS = {"apt", "apt-get", "dpkg", "pip", "pip3", "gcc", "cc", "perl", "curl", "wget"}
EXTRAS = ("operator", "ecr", "gar", "acr", "keyless")
LOCK = ROOT / "image" / "requirements.txt"


@pytest.fixture(scope="module")
def archive() -> Path:
    return operator_image()


@pytest.fixture(scope="module")
def config(archive: Path) -> dict[str, Any]:
    found = config_of(archive)["config"]
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def files(archive: Path) -> Files:
    return files_of(archive)


@image
def test_it_is_small(files: Files) -> None:
    assert files.size < MOST_BYTES


@image
def test_it_is_nobodys(config: dict[str, Any]) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])


@image
def test_its_program_is_started_by_itself(config: dict[str, Any], files: Files) -> None:
    program, *arguments = config["Entrypoint"]
    assert program == "/usr/bin/python3"
    assert arguments == ["-m", "batten_operator"]
    assert not config.get("Cmd")
    assert "usr/bin/python3" in files.entries
    assert set(config["ExposedPorts"]) == {"9443/tcp", "8080/tcp"}


@image
def test_it_says_where_it_comes_from(config: dict[str, Any]) -> None:
    labels = {name: config["Labels"][f"org.opencontainers.image.{name}"] for name in LABELS}
    assert all(labels.values())
    assert labels["version"] == NAME.rpartition(":")[2]


@image
def test_there_is_nothing_in_it_to_run_but_python(files: Files) -> None:
    programs = {
        Path(path).name
        for path, entry in files.entries.items()
        if not entry.isdir() and re.search(r"(^|/)s?bin/", path)
    }
    assert not programs & (SHELLS | TOOLS)
    assert "batten" in programs


@image
def test_nobody_gets_more_rights_by_it(files: Files) -> None:
    risen = [path for path, entry in files.entries.items() if entry.mode & 0o6000 and entry.isreg()]
    assert risen == []
    writable = {
        path
        for path, entry in files.entries.items()
        if (entry.mode & 0o002 or entry.uid or entry.gid) and not entry.issym()
    }
    owned = {
        path for path in writable if not path.startswith(("tmp", "var/tmp", "var/lock", "run"))
    }
    assert owned <= {"home/nonroot"}


@image
def test_what_is_compiled_is_never_compiled_again(files: Files) -> None:
    """Our own modules, others and Python's are there as bytecode, apart from the sources."""
    compiled = {path for path in files.entries if path.endswith(".pyc")}
    for path in (
        "opt/batten/compiled/opt/batten/batten_operator/serve.cpython-313.pyc",
        "opt/batten/compiled/opt/batten/kopf/__init__.cpython-313.pyc",
        "opt/batten/compiled/usr/lib/python3.13/asyncio/base_events.cpython-313.pyc",
    ):
        assert path in compiled
    assert all(path.startswith("opt/batten/compiled/") for path in compiled)


@image
def test_scanners_see_what_is_in_it(files: Files) -> None:
    """Python's packages by their metadata, Debian's by what distroless writes of each."""
    found = re.findall(
        r"^opt/batten/([^/]+)-([^-/]+)\.dist-info/METADATA$", "\n".join(files.entries), re.MULTILINE
    )
    name, version = NAME.rpartition("/")[2].split(":")
    assert {canonicalize_name(each): version for each, version in found} == {
        **locked(),
        name: version,
    }
    status = {Path(path).name for path in files.entries if "/dpkg/status.d/" in path}
    assert {"libc6", "libssl3t64", "libexpat1", "libsqlite3-0", "python3.13-minimal"} <= status


def scanned(archive: Path, *arguments: str) -> dict[str, Any]:
    """What Trivy says of the image without asking anybody."""
    try:
        program = trivy()
    except ToolError as error:
        pytest.skip(str(error))
    offline = ("--offline-scan", "--skip-db-update", "--skip-check-update", "--quiet")
    done = run(program, "image", f"--input={archive}", *offline, *arguments, timeout=300)
    found = json.loads(done.require().stdout)
    assert isinstance(found, dict)
    return found


@image
def test_the_list_of_what_is_in_it_is_whole(archive: Path) -> None:
    """As release.yml attests it: CycloneDX, with every package of the lock and of the base."""
    listed = scanned(archive, "--format=cyclonedx")["components"]
    urls = [unquote(each["purl"]) for each in listed if "purl" in each]
    python = dict(url.removeprefix("pkg:pypi/").split("@") for url in urls if ":pypi/" in url)
    name, version = NAME.rpartition("/")[2].split(":")
    assert python == {**locked(), name: version}
    debian = {url.split("/")[2].partition("@")[0] for url in urls if url.startswith("pkg:deb/")}
    assert debian == set(PACKAGES) or docker_pulls()


@image
def test_there_is_no_secret_in_it_and_nothing_is_set_wrong(archive: Path) -> None:
    both = ("--scanners=secret,misconfig", "--image-config-scanners=secret,misconfig")
    results = scanned(archive, "--format=json", *both)["Results"]
    assert [each["Secrets"] for each in results if each.get("Secrets")] == []
    wrong = {
        each["ID"]
        for result in results
        for each in result.get("Misconfigurations", [])
        if each["Status"] == "FAIL"
    }
    assert wrong == {"DS-0026"}  # no HEALTHCHECK, which Kubernetes ignores


@image
def test_its_rules_hold_for_itself(archive: Path, tmp_path: Path) -> None:
    """`batten check` of the chart, with what a registry says of the image."""
    with registry(tmp_path / "registry") as served:
        repository = f"{served.host}/batten"
        digest = push(archive, f"{repository}:1")
        chart = render(mode="enforce", image={"repository": repository, "digest": digest})
        deployments = tmp_path / "deployments.yaml"
        deployments.write_text(yaml.safe_dump_all(chart.all("Deployment")))
        asking = (f"--local-registry={served.host}", f"--plain-http={served.host}")
        listed = batten("images", "--format=json", *asking, str(deployments))
        checked = batten("check", "--verbose", "--look-up-images", *asking, str(deployments))
    (found,) = json.loads(listed.out)["images"]
    assert found["digest"] == digest
    assert [each["user"] for each in found["platforms"]] == ["65532:65532"]
    assert checked.out == ""
    assert checked.err == "0 errors, 0 warnings, 2 workloads in 1 file\n"


# --- how it is built ----------------------------------------------------------------------------


@image
@pytest.mark.skipif(docker_pulls(), reason="what Docker keeps has times: release.yml rewrites them")
def test_what_is_built_again_is_the_same(archive: Path, tmp_path: Path) -> None:
    """From another copy of the tree, with other times, and with no step taken from a cache."""
    again = tmp_path / "again.tar"
    (tmp_path / "context").mkdir()
    build(build_context(tmp_path / "context"), again)
    assert config_of(again) == config_of(archive)


def test_the_wheel_built_again_is_the_same(tmp_path: Path) -> None:
    first, second = (
        sha256(build_wheel(tmp_path / name, root).read_bytes()).hexdigest()
        for name, root in (("first", ROOT), ("second", copied(tmp_path)))
    )
    assert first == second


def copied(folder: Path) -> Path:
    """The tree that the wheel is built from, somewhere else and of another time."""
    copy = folder / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_text((ROOT / name).read_text())
    for name in ("operator", "webhooks"):
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=without, copy_function=shutil.copyfile)
    return copy


def test_the_wheel_has_no_more_than_the_packages(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        names = {name.partition("/")[0] for name in wheel.namelist()}
    version = NAME.rpartition(":")[2]
    assert names == {"batten_operator", "batten_webhooks", f"batten-{version}.dist-info"}


def locked() -> dict[str, str]:
    """What the lock says, by its normalized name."""
    pinned = re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCK.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pinned}


def test_the_lock_is_what_the_project_asks_for() -> None:
    """`make lock` was run since the dependencies changed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"]]
    extras = [*EXTRAS]
    while extras:
        for text in project["optional-dependencies"][extras.pop()]:
            requirement = Requirement(text)
            if requirement.name == "batten":
                extras += requirement.extras
            else:
                asked.append(text)
    found = locked()
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(found[canonicalize_name(requirement.name)])


def test_every_version_of_the_lock_has_its_hashes() -> None:
    text = LOCK.read_text()
    entries = re.split(r"^(?=[a-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked()) > 50
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text, "which index it was made with is nobody's business"


def test_bases_are_named_by_their_digests() -> None:
    text = DOCKERFILE.read_text()
    bases = dict(re.findall(r"^ARG (\w*BASE)=(\S+)", text, re.MULTILINE))
    assert set(bases) == {"BUILD_BASE", "BASE"}
    assert all(
        re.fullmatch(r"[a-z0-9./-]+:[\w.-]+@sha256:[0-9a-f]{64}", each) for each in bases.values()
    )
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert set(stages) == {"${BUILD_BASE}", "${BASE}"}
