"""`make up` and `make down`: what they start, notice, leave alone and end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from batten_cluster import ClusterError, ControlPlane, free_ports
from batten_e2e import Output, eventually, run
from batten_install import NAMESPACE, RELEASE
from batten_session import saved, session
from batten_tools import CONTROL_PLANE, ToolError, control_plane, full_version

SCRIPTS = Path(__file__).parent
CLUSTER = pytest.mark.cluster


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the scripts keep a cluster of the test's own, with no other one given."""
    folder = tmp_path / "cluster"
    monkeypatch.setenv("BATTEN_CLUSTER", str(folder))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return folder


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with us."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def script(name: str, *arguments: str) -> Output:
    return run(sys.executable, str(SCRIPTS / f"{name}.py"), *arguments, timeout=180)


def processes(folder: Path) -> list[str]:
    """The processes of this machine that were started with the folder in words or environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            texts = [
                (path / name).read_bytes().decode(errors="replace")
                for name in ("cmdline", "environ")
            ]
            if f"{folder}/" in "".join(texts):
                found.append(texts[0])
    return found


def pid(folder: Path, name: str) -> int:
    return int(json.loads((folder / f"{name}.pid").read_text())["pid"])


@CLUSTER
def test_up_twice_after_a_death_and_down(folder: Path) -> None:
    try:
        first = script("up")
        assert first.code == 0, first.stderr
        assert {path.stem for path in folder.glob("*.pid")} == {
            *CONTROL_PLANE,
            "operator",
        } - {"kubectl"}
        shown = run("bash", "-c", f"{first.stdout.partition('&&')[0]} && kubectl get namespaces")
        assert NAMESPACE in shown.require().stdout
        assert len(processes(folder)) == len(CONTROL_PLANE)  # kubectl is none, the operator is one
        operator = pid(folder, "operator")

        second = script("up")
        assert (second.code, second.stdout) == (0, "")
        assert "is up already" in second.stderr
        assert pid(folder, "operator") == operator

        os.kill(pid(folder, "etcd"), signal.SIGKILL)
        current = saved(folder)
        assert current is not None
        eventually(lambda: current.plane.ended() == ["etcd"] or None, "etcd's end", 10)
        assert not current.running()
        third = script("up")
        assert third.code == 0
        assert "found ended: etcd" in third.stderr
        assert pid(folder, "operator") != operator
    finally:
        down = script("down")
    assert (down.code, down.stderr) == (0, "cluster: ended\n")
    assert not folder.exists()
    assert processes(folder) == []
    assert script("down").stderr == "cluster: nothing is up\n"


@CLUSTER
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(folder: Path, sign: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, SCRIPTS / "up.py"], stderr=subprocess.PIPE, text=True
    ) as process:
        eventually(lambda: (folder / "kube-apiserver.pid").exists() or None, "the API server")
        process.send_signal(sign)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "cluster: interrupted; what was started is ended\n"
    assert not folder.exists()
    assert processes(folder) == []


@CLUSTER
def test_a_start_that_fails_tells_why_and_leaves_nothing(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, apiserver_arguments=["--no-such-flag"])
    with pytest.raises(ClusterError, match="unknown flag: --no-such-flag"):
        plane.start()
    assert processes(tmp_path) == []


@CLUSTER
def test_a_given_cluster_gets_only_what_it_keeps_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ControlPlane(tmp_path / "given", controllers=False) as given:
        given.kubectl("run", "web", "--image=web:1", "--dry-run=server").require()
        monkeypatch.setenv("KUBECONFIG", str(given.kubeconfig))
        assert script("up").code == 0
        assert [path.stem for path in folder.glob("*.pid")] == ["operator"]
        webhooks = ("validatingwebhookconfiguration", RELEASE)
        given.kubectl("get", *webhooks).require()
        with pytest.raises(ClusterError, match="runs there already"):
            given.start()

        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "another"))  # down remembers what up used
        assert script("down").code == 0
        assert "NotFound" in given.kubectl("get", *webhooks).stderr
        phase = given.kubectl("get", "namespace", NAMESPACE, "-o", "jsonpath={.status.phase}")
        assert phase.stdout == "Terminating"

        monkeypatch.setenv("KUBECONFIG", str(given.kubeconfig))
        again = script("up")
        assert again.code == 1
        assert f'namespaces "{NAMESPACE}" already exists' in again.stderr
        assert not folder.exists()
        assert given.kubectl("get", "--raw", "/readyz").stdout == "ok"


def test_a_kubeconfig_that_is_not_there_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    done = script("up")
    assert done.code == 1
    assert done.stderr.startswith(f"cluster: KUBECONFIG={tmp_path / 'absent'}: ")
    assert done.stderr.count("\n") == 1
    assert not folder.exists()


def test_the_kubeconfig_of_an_ended_session_is_not_a_given_cluster(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    assert session(folder).own_cluster


def test_a_reused_pid_is_left_alone(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    plane = ControlPlane(tmp_path)
    record = {"pid": bystander.pid, "started": 1}
    for name in ("etcd", "operator"):
        (tmp_path / f"{name}.pid").write_text(json.dumps(record))
    assert plane.ended() == ["etcd", "operator"]
    plane.stop()
    assert bystander.poll() is None
    assert not list(tmp_path.glob("*.pid"))


def test_what_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on')"
    plane.spawn("etcd", [sys.executable, "-uc", f"{stubborn}; time.sleep(60)"])
    eventually(lambda: (tmp_path / "etcd.log").read_text() or None, "the signal's handler")
    started = time.monotonic()
    plane.stop()
    assert time.monotonic() - started < 10
    assert plane.ended() == []


def test_ports_are_distinct_and_outside_the_range_of_outgoing_connections() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    low, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert max(ports) < max(low, 32_768)


def test_an_unknown_version_is_refused_with_the_known_ones() -> None:
    assert full_version("1.33") == "1.33.13"
    with pytest.raises(ToolError, match=r"KUBERNETES_VERSION=1\.12: known are 1\.33, .*1\.37"):
        full_version("1.12")


def test_assets_that_lack_a_program_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etcd").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(ToolError, match="lacks kube-apiserver, kubectl"):
        control_plane("1.36")


def test_the_kind_cluster_has_two_workers_and_leaves_the_image_to_kind() -> None:
    config = yaml.safe_load((SCRIPTS.parents[1] / "kind-config.yaml").read_text())
    assert config["apiVersion"] == "kind.x-k8s.io/v1alpha4"
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker", "worker"]
    assert not any("image" in node for node in config["nodes"])
