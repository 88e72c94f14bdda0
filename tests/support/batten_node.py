"""A real node: containerd and a kubelet of its own, on a control plane, and images for it.

Needs root, runc and the CNI plugins. What it starts it ends, in the order that leaves nothing
behind: Pods, kubelet, containerd, mounts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from batten_cluster import ClusterError, ControlPlane, free_ports
from batten_e2e import run
from batten_tools import CACHE, CNI, containerd, kubelet, say

# A layer's archive, or the file of a large one.
Layer = bytes | Path
OCI = "application/vnd.oci.image"
PAUSE = "localhost/pause:1"
NAME = "batten-node"
# Where containerd puts what is in no other cgroup.
CGROUPS, CGROUP = Path("/sys/fs/cgroup"), "k8s.io"
READY_SECONDS = 60.0
LOOPBACK = "127.0.0.1"
# Nodes of processes beside this one have others.
SUBNET = f"10.89.{os.getpid() % 250}.0/24"
SERVICES = "10.96.0.0/16"
# What /etc/passwd says: without it a runtime knows no user by name.
ACCOUNTS = "root:x:0:0::/:\napp:x:1000:1000::/:\n"

CONTAINERD = """\
version = 3
root = "{folder}/containerd"
state = "{run}/state"
[grpc]
  address = "{run}/containerd.sock"
[ttrpc]
  address = "{run}/containerd.ttrpc"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  # Where root lacks CAP_SYS_RESOURCE a sandbox could not be given its score.
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{cni}"]
  conf_dir = "{folder}/cni"
"""


@dataclass
class Node:
    """`folder` is absolute; sockets are in another one: their names must be short."""

    plane: ControlPlane
    folder: Path
    sockets: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="bn-", dir="/run")))

    @property
    def address(self) -> str:
        return f"{self.sockets}/containerd.sock"

    def start(self) -> None:
        """Raises ClusterError or ToolError; nothing is left running then."""
        started = time.monotonic()
        try:
            self._start_containerd()
            self.load({PAUSE: {}})
            self._start_kubelet()
            self._wait(self._ready, "the node is not ready")
        except BaseException:
            self.stop()
            raise
        say(f"a node is ready after {time.monotonic() - started:.1f} s")

    def stop(self) -> None:
        kubectl = self.plane.kubectl
        if self.plane.running("kubelet"):
            kubectl(
                "delete", "pods", "--all", "-A", "--grace-period=1", "--timeout=60s", timeout=90
            )
            _patiently(lambda: self._ctr("tasks", "list", "-q") == "", 30)
            self.plane.end("kubelet")
        kubectl("delete", "node", NAME, "--ignore-not-found")
        if self.plane.running("containerd"):
            self._remove_sandboxes()
            self.plane.end("containerd")
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            at = line.split()[1]
            if at.startswith((f"{self.folder}/", f"{self.sockets}/")):
                run("umount", "--lazy", at)
        for group in CGROUPS.glob(f"*/{CGROUP}"):
            with suppress(OSError):  # somebody else's containers are in it
                group.rmdir()
        shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def load(self, images: Mapping[str, Mapping[str, Any]]) -> None:
        """Images by name, of the one program, with these fields of their configuration."""
        only = pause_layer()
        self.load_layers(
            {
                name: ({"Entrypoint": ["/pause"], **config}, [only])
                for name, config in images.items()
            }
        )

    def load_layers(self, images: Mapping[str, tuple[Mapping[str, Any], list[Layer]]]) -> None:
        """Images by name, each with its configuration and its layers."""
        archive = self.folder / "images.tar"
        write_layout(archive, images)
        self._ctr("images", "import", str(archive))
        archive.unlink()

    def load_archive(self, archive: Path) -> None:
        """The images of an archive, as `docker save` writes it."""
        self._ctr("images", "import", str(archive))

    def _ctr(self, *arguments: str) -> str:
        done = run(
            str(containerd() / "ctr"), "-a", self.address, "-n", "k8s.io", *arguments, timeout=300
        )
        if done.code:
            raise ClusterError(f"ctr {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def _remove_sandboxes(self) -> None:
        """What a Pod that could not be deleted has left."""
        for task in self._ctr("tasks", "list", "-q").split():
            self._ctr("tasks", "kill", "-s", "SIGKILL", task)

    def _start_containerd(self) -> None:
        folder = self.folder
        (folder / "cni").mkdir(parents=True)
        (folder / "cni" / "10-ptp.conflist").write_text(json.dumps(_network(folder)))
        text = CONTAINERD.format(folder=folder, run=self.sockets, pause=PAUSE, cni=CNI)
        (folder / "containerd.toml").write_text(text)
        programs = containerd()
        path = f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"
        command = [str(programs / "containerd"), "--config", str(folder / "containerd.toml")]
        self.plane.spawn("containerd", command, PATH=path)
        self._wait(lambda: Path(self.address).exists(), "containerd does not listen")

    def _start_kubelet(self) -> None:
        (port,) = free_ports(1)
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self.address}",
            "port": port,
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(self.plane.folder / "ca.crt")},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "localStorageCapacityIsolation": False,
            "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "maxPods": 200,
            "podLogsDir": str(self.folder / "logs"),
        }
        file = self.folder / "kubelet.json"
        file.write_text(json.dumps(settings))
        self.plane.spawn(
            "kubelet",
            [
                kubelet(),
                f"--config={file}",
                f"--kubeconfig={self.plane.kubeconfig}",
                f"--hostname-override={NAME}",
                f"--root-dir={self.folder / 'kubelet'}",
                f"--cert-dir={self.folder / 'pki'}",
                f"--node-ip={own_address()}",
            ],
        )

    def _ready(self) -> bool:
        asked = self.plane.kubectl("get", "node", NAME, "-o", "json")
        if asked.code:
            return False
        conditions = json.loads(asked.stdout)["status"].get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def _wait(self, done: Any, what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not done():
            ended = set(self.plane.ended()) & {"containerd", "kubelet"}
            if ended or time.monotonic() > deadline:
                logs = [self.plane.folder / f"{name}.log" for name in ("containerd", "kubelet")]
                words = "".join(log.read_text()[-2000:] for log in logs if log.exists())
                raise ClusterError(f"{what}; last words:\n{words}")
            time.sleep(0.2)


def own_address() -> str:
    """Of this machine, which an API server needs for a kubelet's logs: the loopback, where there is
    no other, is never a node's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 443))  # of documentation: nothing is sent
        except OSError:
            return LOOPBACK
        return str(probe.getsockname()[0])


def _patiently(done: Callable[[], bool], seconds: float) -> bool:
    """Whether it came to be within so many seconds."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _network(folder: Path) -> dict[str, Any]:
    """A network of this one node."""
    ranges = [[{"subnet": SUBNET}]]
    ipam = {
        "type": "host-local",
        "ranges": ranges,
        "routes": [{"dst": SERVICES}],
        "dataDir": str(folder / "addresses"),
    }
    ptp = {"type": "ptp", "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "batten", "plugins": [ptp]}


# --- images -------------------------------------------------------------------------------------


def write_layout(
    archive: Path, images: Mapping[str, tuple[Mapping[str, Any], list[Layer]]]
) -> None:
    """An archive of an OCI image layout (image-layout.md of the image specification)."""
    blobs: dict[str, Layer] = {}
    manifests = []
    known: dict[Path, str] = {}

    def blob(data: Layer, media_type: str) -> dict[str, Any]:
        if isinstance(data, Path):
            digest = known.get(data) or known.setdefault(data, _digest_of(data))
            size = data.stat().st_size
        else:
            digest, size = _digest(data), len(data)
        blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": size}

    for name, (config, layers) in images.items():
        described = [blob(layer, f"{OCI}.layer.v1.tar") for layer in layers]
        value = {
            "os": "linux",
            "architecture": _architecture(),
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [each["digest"] for each in described]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": blob(json.dumps(value).encode(), f"{OCI}.config.v1+json"),
            "layers": described,
        }
        entry = blob(json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
        manifests.append(entry | {"annotations": {"io.containerd.image.name": name}})
    with tarfile.open(archive, mode="w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())
        for digest, data in blobs.items():
            path = f"blobs/sha256/{digest.partition(':')[2]}"
            if isinstance(data, Path):
                tar.add(data, path)
            else:
                _add(tar, path, data)


def pause_layer() -> bytes:
    """Of the program that only waits, as /pause."""
    return program_layer(containerd() / "pause")


def program_layer(program: Path) -> bytes:
    """Of one static program, by its name at the root."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, program.name, program.read_bytes(), 0o755)
        _add(tar, "etc/passwd", ACCOUNTS.encode())
    return layer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _digest_of(file: Path) -> str:
    with file.open("rb") as opened:
        return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def node_is_built() -> bool:
    """Whether a node is ready without minutes of building."""
    return all(any(CACHE.glob(f"{name}/v*/bin/{name}")) for name in ("kubelet", "containerd"))


@contextmanager
def node(plane: ControlPlane, folder: Path) -> Iterator[Node]:
    """A node that is ready, gone afterwards."""
    found = Node(plane, folder.absolute())
    found.start()
    try:
        yield found
    finally:
        found.stop()


@contextmanager
def api_service(plane: ControlPlane) -> Iterator[None]:
    """The API server at the address that Pods are told, where kube-proxy would bring them."""
    service = plane.kubectl("get", "service", "kubernetes", "-o", "json").require()
    address = json.loads(service.stdout)["spec"]["clusterIP"]
    server = json.loads(plane.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    run("ip", "address", "add", f"{address}/32", "dev", "lo").require()
    try:
        with _Forwarder((address, 443), urlsplit(server).port or 443) as forwarder:
            Thread(target=forwarder.serve_forever, daemon=True).start()
            yield
            forwarder.shutdown()
    finally:
        run("ip", "address", "delete", f"{address}/32", "dev", "lo").require()


class _Forwarder(ThreadingTCPServer):
    """Every connection goes on to a port of this machine."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], port: int) -> None:
        super().__init__(address, BaseRequestHandler)
        self._port = port

    def finish_request(self, request: Any, client_address: Any) -> None:
        with socket.create_connection((LOOPBACK, self._port)) as onward:
            back = Thread(target=_pump, args=(onward, request), daemon=True)
            back.start()
            _pump(request, onward)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
