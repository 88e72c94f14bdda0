"""`batten harden`: what it prints, what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from batten_command import BATTEN, batten
from batten_corpus import CORPUS, needs_corpus

WEB = """\
# The shop's front end.
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}   # flow style stays
spec:
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: app   # the list is not indented
        image: "registry.example/web:1.4"
"""


@pytest.fixture
def web(tmp_path: Path) -> Path:
    (tmp_path / "web.yaml").write_text(WEB)
    return tmp_path


def test_it_only_adds_lines(web: Path) -> None:
    ran = batten("harden", "web.yaml", cwd=web)
    assert ran.code == 0
    rest = iter(ran.out.splitlines())
    assert all(line in rest for line in WEB.splitlines())
    assert (web / "web.yaml").read_text() == WEB


def test_diff_can_be_applied(web: Path) -> None:
    ran = batten("harden", "--diff", "web.yaml", cwd=web)
    assert ran.out.startswith("--- a/web.yaml\n+++ b/web.yaml\n@@ ")
    subprocess.run(["git", "apply", "-"], input=ran.out.encode(), cwd=web, check=True)
    assert (web / "web.yaml").read_text() == batten("harden", "web.yaml", cwd=web).out
    assert not batten("harden", "--diff", "web.yaml", cwd=web).out


@pytest.mark.parametrize("tool", [["git", "apply", "-"], ["patch", "-p1"]])
def test_diff_of_a_name_with_blanks_can_be_applied(tool: list[str], web: Path) -> None:
    (web / "a b").mkdir()
    (web / "web.yaml").rename(web / "a b" / "my web.yaml")
    ran = batten("harden", "--diff", ".", cwd=web)
    subprocess.run(tool, input=ran.out.encode(), cwd=web, check=True)
    assert "runAsNonRoot" in (web / "a b" / "my web.yaml").read_text()


def test_write_keeps_mode_and_links_and_is_done_once(web: Path) -> None:
    (web / "web.yaml").chmod(0o640)
    (web / "link.yaml").symlink_to("web.yaml")
    assert "hardened link.yaml" in batten("harden", "--write", "link.yaml", cwd=web).err
    assert (web / "link.yaml").is_symlink()
    assert stat.S_IMODE((web / "web.yaml").stat().st_mode) == 0o640
    first = (web / "web.yaml").stat()
    assert "hardened" not in batten("harden", "--write", "web.yaml", cwd=web).err
    assert (web / "web.yaml").stat().st_ino == first.st_ino
    assert sorted(os.listdir(web)) == ["link.yaml", "web.yaml"]


def test_what_it_must_not_fix_is_told(web: Path) -> None:
    (web / "web.yaml").write_text(WEB + "        securityContext: {privileged: true}\n")
    ran = batten("harden", "web.yaml", cwd=web)
    assert ran.code == 1
    assert "web.yaml:15:27: error[no-privileged]" in ran.err
    assert "privileged: true" in ran.out


def test_several_files_are_one_stream(web: Path) -> None:
    (web / "b.json").write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "b"},
                "spec": {"containers": [{"name": "b", "image": "b:1"}]},
            }
        )
    )
    ran = batten("harden", "web.yaml", "b.json", cwd=web)
    kinds = [document["kind"] for document in yaml.safe_load_all(ran.out)]
    assert kinds == ["Deployment", "Pod"]


def test_standard_input() -> None:
    ran = batten("harden", "-", stdin=WEB.encode())
    assert ran.code == 0
    assert "readOnlyRootFilesystem: true" in ran.out


def test_a_misplaced_field_is_moved(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n"
        "  securityContext:\n    runAsUser: 1000\n    readOnlyRootFilesystem: true\n"
        "  containers:\n    - name: a\n      image: a:1\n"
    )
    value = yaml.safe_load(batten("harden", "pod.yaml", cwd=tmp_path).out)
    assert "readOnlyRootFilesystem" not in value["spec"]["securityContext"]
    assert value["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_killed_half_way_no_file_is_half_written(tmp_path: Path) -> None:
    count = 300
    for number in range(count):
        (tmp_path / f"{number:03}.yaml").write_text(WEB)
    after = batten("harden", tmp_path / "000.yaml").out
    process = subprocess.Popen([BATTEN, "harden", "--write", tmp_path], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    last = tmp_path / f"{count // 3:03}.yaml"
    while last.read_text() == WEB and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    texts = [path.read_text() for path in tmp_path.glob("*.yaml")]
    assert len(texts) == count
    assert set(texts) <= {WEB, after}
    assert batten("harden", "--write", tmp_path).code == 0
    assert {path.read_text() for path in tmp_path.glob("[0-9]*.yaml")} == {after}


def test_every_manifest_of_the_corpus(tmp_path: Path) -> None:
    """Nothing is lost, the second time nothing changes, and comments all stay."""
    needs_corpus()
    changed = 0
    for number, path in enumerate(sorted((CORPUS / "manifests").rglob("*.yaml"))):
        data = path.read_bytes()
        (tmp_path / f"{number:05}.yaml").write_bytes(data)
    batten("harden", "--write", tmp_path)
    once = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ran = batten("harden", "--write", tmp_path)
    assert "\nhardened " not in f"\n{ran.err}"
    for number, path in enumerate(sorted((CORPUS / "manifests").rglob("*.yaml"))):
        before, after = path.read_text(), once[f"{number:05}.yaml"].decode()
        changed += before != after
        rest = iter(after.splitlines())
        comments = [line for line in before.splitlines() if line.lstrip().startswith("#")]
        assert all(line in rest for line in comments), path
    assert changed > 100
