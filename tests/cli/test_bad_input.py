"""Whatever the input, a clear line and the right exit code; never a traceback or a lost byte."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from batten_command import BATTEN, batten

POD = (
    b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
    b"spec: {containers: [{name: a, image: 'a:1'}]}\n"
)
BAD = {
    "helm.yaml": (b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Values.name }}\n", "Helm"),
    "helm-block.yaml": (b"{{- if .Values.x }}\napiVersion: v1\nkind: Pod\n{{- end }}\n", "Helm"),
    "broken.yaml": (b"a: [1,\n", "broken.yaml:"),
    "quote.yaml": (b'a: "open\n', "quote.yaml:"),
    "tab.yaml": (b"a:\n\tb: 1\n", "tab.yaml:2"),
    "duplicate.yaml": (b"apiVersion: v1\nkind: Pod\nkind: Pod\n", "duplicate.yaml:3:1"),
    "binary.yaml": (bytes(range(256)), "binary.yaml"),
    "utf8.yaml": (b"a: \xff\xfe\xfd\n", "utf8.yaml"),
    "empty.yaml": (b"", "no Kubernetes object"),
    "comment.yaml": (b"# nothing\n", "no Kubernetes object"),
    "compose.yaml": (b"services:\n  web: {image: nginx}\n", "no Kubernetes object"),
    "list.json": (b"[1, 2]", "no Kubernetes object"),
    "deep.json": (b"[" * 20000, "deep.json"),
    "bomb.yaml": (
        b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 10)) for c in range(98, 108)
        ),
        "bomb.yaml",
    ),
    "shape.yaml": (POD.replace(b"[{name: a, image: 'a:1'}]", b"7"), "spec.containers"),
    "types.yaml": (POD.replace(b"'a:1'", b"{}"), "spec.containers[0].image"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", [["check"], ["harden"], ["harden", "--write"]])
def test_unusable(name: str, command: list[str], tmp_path: Path) -> None:
    data, expected = BAD[name]
    (tmp_path / name).write_bytes(data)
    ran = batten(*command, name, cwd=tmp_path)
    assert ran.code == 2
    assert expected in ran.err
    assert "batten: " in ran.err
    assert not ran.out
    assert (tmp_path / name).read_bytes() == data
    assert os.listdir(tmp_path) == [name]


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "large.yaml").open("wb") as file:
        file.write(POD)
        file.truncate(50 * 1024 * 1024)
    ran = batten("check", "large.yaml", cwd=tmp_path)
    assert ran.code == 2
    assert "MiB" in ran.err


@pytest.mark.parametrize("command", [["check"], ["harden", "--write"]])
def test_pipes_and_devices_end(command: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, expected in {
        "pipe.yaml": "pipe.yaml: holds no Kubernetes object",
        "/dev/null": "holds no Kubernetes object",
        "/dev/zero": "has more than 16 MiB",
        ".": "",
    }.items():
        ran = batten(*command, path, cwd=tmp_path)
        assert expected in ran.err
        assert ran.code == (2 if expected else 0)
    assert stat.S_ISFIFO((tmp_path / "pipe.yaml").stat().st_mode)


def test_a_process_substitution_is_read() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{BATTEN} check <(sleep 0.3; printf '%s' \"$POD\")"],
        env={**os.environ, "POD": POD.decode()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "error[run-as-non-root]" in done.stdout
    assert done.returncode == 1


def test_one_bad_file_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: [")
    (tmp_path / "b.yaml").write_bytes(POD)
    ran = batten("harden", "--write", ".", cwd=tmp_path)
    assert ran.code == 2
    assert b"runAsNonRoot" in (tmp_path / "b.yaml").read_bytes()
    assert (tmp_path / "a.yaml").read_bytes() == b"a: ["


def test_unrelated_files_can_be_passed_over(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_bytes(b"services: {}\n")
    assert batten("check", "--skip-unrelated", "compose.yaml", cwd=tmp_path).code == 0
    assert batten("check", ".", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check", "missing.yaml"], "missing.yaml: no such file or directory"),
        (
            ["check", "--policy=none", "missing.yaml"],
            "neither one of baseline, restricted, hardened nor a readable file",
        ),
        (["explain", "run-as-nonroot"], "did you mean run-as-non-root?"),
        (["review", "--webhook=mutate"], "not an AdmissionReview"),
        (["check"], "required: PATH"),
        (["harden", "--diff", "--write", "a"], "not allowed with"),
    ],
)
def test_usage(arguments: list[str], expected: str, tmp_path: Path) -> None:
    ran = batten(*arguments, cwd=tmp_path)
    assert ran.code == 2
    assert expected in ran.err


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="no setpriv"
)
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_bytes(POD)
    (tmp_path / "secret.yaml").chmod(0)
    drop = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    probe = subprocess.run([*drop, BATTEN, "--version"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("the command cannot be run as another user here")
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [*drop, BATTEN, "check", tmp_path / "secret.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "permission denied" in done.stderr or "no such file" in done.stderr


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.yaml").write_bytes(POD)
    process = subprocess.Popen(
        [BATTEN, "check", tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    assert process.wait() in (1, 128 + signal.SIGPIPE)


def test_file_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\x1b[31m.yaml")
    (tmp_path / name).write_bytes(POD)
    ran = batten("check", ".", cwd=tmp_path)
    assert ran.code == 1
    assert "\x1b" not in ran.out


def test_a_wrong_type_within_a_list_is_shown_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text(
        "apiVersion: v1\nkind: List\nitems:\n"
        "  - apiVersion: v1\n    kind: ConfigMap\n"
        "  - apiVersion: v1\n    kind: Pod\n    spec:\n      containers: 7\n"
    )
    ran = batten("check", "list.yaml", cwd=tmp_path)
    assert ran.code == 2
    assert "batten: list.yaml:9:7: items[1].spec.containers: expected" in ran.err
