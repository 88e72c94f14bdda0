"""kind's node image, made here: where none can be pulled, from Debian and from Go modules.

What kind's own Dockerfile (images/base of its Go module) and its node image build do, with the
same files: https://kind.sigs.k8s.io/docs/design/node-image/.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from batten_cluster import ControlPlane
from batten_debian import make_root
from batten_docker import Docker
from batten_node import Layer, pause_layer, program_layer, write_layout
from batten_tools import (
    CACHE,
    DEFAULT_VERSION,
    KIND,
    MODULES,
    VERSIONS,
    ToolError,
    alone,
    containerd,
    control_plane,
    coredns,
    go_module,
    kind_version,
    kubeadm,
    kubelet,
    say,
)

# What a node of ours has besides kind's files.
OURS = MODULES / "kind" / "node"
# systemd of newer suites wants cgroup v2.
SUITE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "conntrack",
    "containernetworking-plugins",
    "curl",
    "e2fsprogs",
    "ethtool",
    "iproute2",
    "iptables",
    "jq",
    "kmod",
    "libseccomp2",
    "mount",
    "nftables",
    "procps",
    "runc",
    "socat",
    "systemd",
    "systemd-sysv",
)
REPOSITORY = "localhost/batten-kind-node"
# What starts by itself in a machine and has no business in a container.
UNWANTED = (
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/basic.target.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/multi-user.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
)
CNI_PLUGINS = ("host-local", "loopback", "portmap", "ptp")
# What kube-proxy calls.
RULES = ("/usr/sbin/xtables-nft-multi", "/usr/sbin/nft", "/usr/sbin/conntrack")
IPTABLES = ("iptables", "iptables-save", "iptables-restore")
STORAGE = """\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations:
    storageclass.kubernetes.io/is-default-class: "true"
provisioner: kubernetes.io/no-provisioner
"""


def node_image(docker: Docker) -> str:
    """The image's name; Docker has it already, or it is made, which takes minutes once.
    Raises ToolError."""
    name = f"{REPOSITORY}:v{VERSIONS[DEFAULT_VERSION]}-{_key()}"
    folder = CACHE / "kind"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, "waiting for another process that makes kind's node image"):
        if docker("image", "inspect", name).code:
            _make(docker, name)
    return name


def _key() -> str:
    """Of everything that the image is made from."""
    files = (Path(__file__), MODULES / "kind/coredns/go.sum", *_files(OURS))
    sources = (path.read_text() for path in files)
    versions = kind_version(), containerd().parent.name, *sources
    return sha256("\0".join(versions).encode()).hexdigest()[:12]


def _make(docker: Docker, name: str) -> None:
    started = time.monotonic()
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="batten-kind-", dir=CACHE) as temporary:
        root = Path(temporary, "root")
        say("kind's node image: a root filesystem of Debian packages")
        make_root(SUITE, PACKAGES, root)
        say("kind's node image: kind's files, Kubernetes' programs")
        _arrange(root)
        _install(root, programs)
        say("kind's node image: the images of the control plane")
        _preload(root, Path(temporary), programs)
        say("kind's node image: handing it to Docker")
        _import(docker, root, name)
    say(f"kind's node image is made, in {time.monotonic() - started:.0f} s")


def _programs() -> dict[str, Path]:
    """Every program of a node, by its name."""
    folders = control_plane(DEFAULT_VERSION), containerd(), kubeadm().parent, coredns().parent
    found = {path.name: path for folder in folders for path in folder.iterdir()}
    return {**found, "kubelet": Path(kubelet())}


def _arrange(root: Path) -> None:
    """kind's own files, and of Debian's services only those that a node needs."""
    for pattern in UNWANTED:
        for path in root.glob(pattern):
            path.unlink()
    for files in (go_module(KIND, kind_version()) / "images/base/files", OURS):
        for source in _files(files):
            target = root / source.relative_to(files)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.parent.name == "bin" else 0o644)
    _configure_containerd(root / "etc/containerd/config.toml")
    with (root / "etc/systemd/journald.conf").open("a") as journal:
        journal.write("ReadKMsg=no\n")
    for verb, units in {
        "enable": ("kubelet", "containerd", "undo-mount-hacks", "pod-network"),
        "mask": ("systemd-binfmt",),
    }.items():
        names = [f"{unit}.service" for unit in units]
        _run("chroot", str(root), "systemctl", verb, *names)
    (root / "etc/kubernetes/manifests").mkdir(parents=True)
    (root / "kind/version").write_text(f"v{VERSIONS[DEFAULT_VERSION]}")
    (root / "kind/manifests").mkdir()
    (root / "kind/manifests/default-storage.yaml").write_text(STORAGE)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _configure_containerd(config: Path) -> None:
    # Where root lacks CAP_SYS_RESOURCE a sandbox could not be given its score.
    score = "restrict_oom_score_adj = "
    network = """
[plugins."io.containerd.grpc.v1.cri".cni]
  # With the Pod subnet that a node is given.
  conf_template = "/kind/pod-network.conflist"
"""
    config.write_text(config.read_text().replace(f"{score}false", f"{score}true") + network)


def _install(root: Path, programs: dict[str, Path]) -> None:
    for name in ("kubeadm", "kubectl", "kubelet"):
        shutil.copy(programs[name], root / "usr/bin")
    for name in ("containerd", "containerd-shim-runc-v2", "ctr"):
        shutil.copy(programs[name], root / "usr/local/bin")
    plugins = root / "opt/cni/bin"
    plugins.mkdir(parents=True)
    for name in CNI_PLUGINS:
        shutil.copy(root / "usr/lib/cni" / name, plugins)
    spec = json.loads(_run(str(programs["ctr"]), "oci", "spec"))
    hook = {"path": "/kind/bin/mount-product-files.sh"}
    spec.setdefault("hooks", {}).setdefault("createContainer", []).append(hook)
    del spec["process"]["rlimits"]
    (root / "etc/containerd/cri-base.json").write_text(json.dumps(spec))


def _images(root: Path, programs: dict[str, Path]) -> dict[str, tuple[dict[str, Any], list[Layer]]]:
    """What kubeadm asks for, by name."""
    asked = _run(
        str(programs["kubeadm"]),
        "config",
        "images",
        "list",
        f"--kubernetes-version=v{VERSIONS[DEFAULT_VERSION]}",
    )
    found: dict[str, tuple[dict[str, Any], list[Layer]]] = {}
    for image in asked.split():
        name = image.rpartition("/")[2].partition(":")[0]
        if name == "pause":
            continue
        layers: list[Layer] = [program_layer(programs[name])]
        if name == "kube-proxy":
            layers.append(_rules_layer(root))
        entry = {"Entrypoint": [f"/{name}"]} if name == "coredns" else {}
        path = "PATH=/:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        found[image] = ({**entry, "Env": [path]}, layers)
    sandbox = _sandbox_image(root)
    found[sandbox] = ({"Entrypoint": ["/pause"]}, [pause_layer()])
    return found


def _sandbox_image(root: Path) -> str:
    config = (root / "etc/containerd/config.toml").read_text()
    return config.partition('sandbox_image = "')[2].partition('"')[0]


def _rules_layer(root: Path) -> bytes:
    """iptables, nft and conntrack of the root, with the libraries that they need."""
    chroot = ("chroot", str(root))
    plugins = [f"/{path.relative_to(root)}" for path in root.glob("usr/lib/*/xtables/*.so")]
    listed = _run(*chroot, "ldd", *RULES, *plugins).split()
    libraries = {word for word in listed if word.startswith("/") and not word.endswith(":")}
    files = sorted({*RULES, *plugins, *libraries})
    real = _run(*chroot, "realpath", *files).split()
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for path, at in zip(files, real, strict=True):
                tar.add(root / at.strip("/"), path.strip("/"))
            for name in IPTABLES:
                for program in (name, name.replace("ip", "ip6", 1)):
                    _link(tar, f"usr/sbin/{program}", RULES[0])
            _link(tar, "usr/local/bin/kube-proxy", "/kube-proxy")
        file.seek(0)
        return file.read()


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _preload(root: Path, folder: Path, programs: dict[str, Path]) -> None:
    """The images in the containerd store that nodes start with."""
    archive = folder / "images.tar"
    write_layout(archive, _images(root, programs))
    with _store(root, folder, programs) as address:
        ctr = (str(programs["ctr"]), "-a", address, "-n", "k8s.io")
        _run(*ctr, "images", "import", "--no-unpack", "--local", str(archive))


@contextmanager
def _store(root: Path, folder: Path, programs: dict[str, Path]) -> Iterator[str]:
    """containerd on the root's own store; its address."""
    with tempfile.TemporaryDirectory(prefix="bk-", dir="/run") as run:
        address = f"{run}/containerd.sock"
        config = folder / "containerd.toml"
        config.write_text(
            "version = 3\n"
            f'root = "{root}/var/lib/containerd"\nstate = "{run}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"]\n'
            f'[grpc]\n  address = "{address}"\n[ttrpc]\n  address = "{run}/ttrpc"\n'
        )
        plane = ControlPlane(folder / "store")
        plane.spawn("containerd", [str(programs["containerd"]), "--config", str(config)])
        try:
            deadline = time.monotonic() + 30
            while not Path(address).exists():
                if time.monotonic() > deadline or not plane.running("containerd"):
                    words = (plane.folder / "containerd.log").read_text()[-1500:]
                    raise ToolError(f"containerd does not come up:\n{words}")
                time.sleep(0.1)
            yield address
        finally:
            plane.end("containerd")


def _import(docker: Docker, root: Path, name: str) -> None:
    changes = (
        "ENV container=docker",
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "STOPSIGNAL SIGRTMIN+3",
        'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
    )
    options = [f"--change={change}" for change in changes]
    environment = {**os.environ, **docker.environment}
    with (
        subprocess.Popen(
            ["tar", "--create", "--numeric-owner", f"--directory={root}", "."],
            stdout=subprocess.PIPE,
        ) as packed,
        subprocess.Popen(
            ["docker", "import", *options, "-", name],
            stdin=packed.stdout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as taken,
    ):
        assert packed.stdout is not None
        packed.stdout.close()
        _, told = taken.communicate()
    if taken.returncode or packed.returncode:
        raise ToolError(f"Docker does not take kind's node image: {told}")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{' '.join(command[:4])} failed:\n{done.stderr[-1500:]}")
    return done.stdout
