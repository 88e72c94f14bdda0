"""`batten harden` keeps every byte it need not touch, in a file, a diff and a stream of files."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from batten_command import BATTEN, batten, batten_inside

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: NAME
spec:
  containers:
    - name: app   # the only one
      image: a:1
"""
SHAPES = {
    "plain": POD.encode(),
    "no newline at the end": POD.rstrip("\n").encode(),
    "crlf": POD.replace("\n", "\r\n").encode(),
    "mark of utf-8": b"\xef\xbb\xbf" + POD.encode(),
    "separator": b"---\n" + POD.encode(),
    "comment before the separator": b"# The first.\n---\n" + POD.encode(),
    "directive": b"%YAML 1.1\n---\n" + POD.encode(),
    "end of the document": POD.encode() + b"...\n",
    "form feed in a comment": b"# \x0c\n".replace(b"\x0c", "\u2028".encode()) + POD.encode(),
    "json": b'{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "NAME"},\n'
    b'  "spec": {"containers": [{"name": "app", "image": "a:1"}]}}',
}
each_shape = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture
def pods(tmp_path: Path) -> Path:
    for number, data in enumerate(SHAPES.values()):
        path = tmp_path / "pods" / f"{number:02}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data.replace(b"NAME", f"pod-{number}".encode()))
    (tmp_path / "pods" / "99.yaml").write_bytes(POD.replace("NAME", "pod-99").encode("utf-16"))
    return tmp_path


def test_files_of_all_shapes_are_one_stream(pods: Path) -> None:
    ran = batten_inside("harden", "pods", cwd=pods)
    assert ran.code == 0
    documents = [document for document in yaml.safe_load_all(ran.out) if document is not None]
    expected = [f"pod-{number}" for number in [*range(len(SHAPES)), 99]]
    assert [document["metadata"]["name"] for document in documents] == expected
    for document in documents:
        assert document["spec"]["securityContext"]["runAsNonRoot"] is True
    again = batten_inside("harden", "-", stdin=ran.out.encode(), cwd=pods)
    assert again.out == ran.out


@each_shape
def test_a_diff_applies(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "a pod.yaml"
    path.write_bytes(SHAPES[shape])
    diff = batten_inside("harden", "--diff", path.name, cwd=tmp_path).out
    assert path.read_bytes() == SHAPES[shape]
    expected = batten_inside("harden", path.name, cwd=tmp_path).out
    subprocess.run(["git", "apply", "-"], input=diff.encode(), cwd=tmp_path, check=True)
    assert path.read_bytes() == expected.encode()
    assert batten_inside("harden", "--diff", path.name, cwd=tmp_path).out == ""


@each_shape
def test_what_is_written_is_what_is_printed(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_bytes(SHAPES[shape])
    printed = batten_inside("harden", "pod.yaml", cwd=tmp_path).out.encode()
    assert printed != SHAPES[shape]
    assert batten_inside("harden", "--write", "pod.yaml", cwd=tmp_path).out == ""
    assert path.read_bytes() == printed
    kept = SHAPES[shape].replace(b"}", b"").replace(b"]", b"").splitlines()
    rest = iter(printed.splitlines())
    assert all(any(line in new for new in rest) for line in kept if b'"containers"' not in line)


def test_standard_input_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    ran = batten_inside("harden", "--write", "pod.yaml", "-", stdin=POD.encode(), cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "batten: --write edits files: standard input is none\n"
    assert (tmp_path / "pod.yaml").read_text() == POD


def test_a_pipe_cannot_be_written() -> None:
    line = f"{BATTEN} harden --write <(printf '%s' \"$POD\")"
    done = subprocess.run(
        ["bash", "-c", line], env={**os.environ, "POD": POD}, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"batten: /dev/fd/" in done.stderr
    assert b"cannot be" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(POD)
    os.chown(path, 65534, 65534)
    path.chmod(0o4640)
    assert batten("harden", "--write", "pod.yaml", cwd=tmp_path).code == 0
    kept = path.stat()
    assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (65534, 65534, 0o4640)


def as_nobody(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that gives up root once everything is loaded."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    for above in [folder, *folder.parents]:
        if above.stat().st_mode & 0o005 == 0:
            above.chmod(above.stat().st_mode | 0o055)
    code = (
        "import os, sys\n"
        "from batten_webhooks.cli.__main__ import main\n"
        "os.chdir(sys.argv[1])\n"
        "main(['harden', '--diff', '.'])\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    return subprocess.run(
        [BATTEN.with_name("python"), "-c", code, folder, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def guarded(tmp_path: Path) -> Path:
    """One folder that only root may use as the test says, and one that everybody may."""
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pod.yaml").write_text(POD)
    (tmp_path / "open").chmod(0o777)
    return tmp_path


def test_a_folder_that_may_not_be_written_to(guarded: Path) -> None:
    done = as_nobody(guarded, "harden", "--write", ".")
    assert done.returncode == 2, done.stderr
    assert "batten: closed/pod.yaml: cannot be written: permission denied" in done.stderr
    assert "hardened open/pod.yaml" in done.stderr
    assert (guarded / "closed" / "pod.yaml").read_text() == POD
    assert os.listdir(guarded / "closed") == os.listdir(guarded / "open") == ["pod.yaml"]


def test_a_folder_that_may_not_be_listed(guarded: Path) -> None:
    (guarded / "closed").chmod(0o700)
    done = as_nobody(guarded, "check", ".")
    assert done.returncode == 2
    assert "batten: closed: permission denied\n" in done.stderr
    assert "open/pod.yaml:" in done.stdout
