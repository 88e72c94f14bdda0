"""The operator's image, built from the repository's Dockerfile.

Where Docker can pull the bases that the Dockerfile names, these are taken. Elsewhere two stand in,
made of Debian's packages: of the same ones as the image's own base, which has nothing else either.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from batten_tools import CACHE, ToolError, alone, debian_mirror, say

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# As the chart has it.
NAME = f"localhost/batten:{VERSION}"
# When everything in it was made: layers of the same files are the same then.
EPOCH = 1_700_000_000
PULL_SECONDS = 120.0

SUITE = "trixie"
# Of gcr.io/distroless/python3-debian13, as its base/, cc/ and python3/config.bzl name them.
PACKAGES = (
    *("base-files", "ca-certificates", "media-types", "netbase", "tzdata"),
    *("libc-bin", "libc6", "libssl3t64", "libzstd1", "zlib1g"),
    *("gcc-14-base", "libgcc-s1", "libgomp1", "libstdc++6"),
    *("libbz2-1.0", "libcom-err2", "libcrypt1", "libdb5.3t64", "libexpat1", "libffi8"),
    *("libgssapi-krb5-2", "libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0"),
    *("liblzma5", "libncursesw6", "libnsl2", "libreadline8t64", "libsqlite3-0", "libtinfo6"),
    *("libtirpc3t64", "libuuid1"),
    *("libpython3.13-minimal", "libpython3.13-stdlib", "python3.13-minimal", "python3.13-venv"),
)
UNNEEDED = ("boot", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")
ACCOUNTS = """\
root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
"""
GROUP = "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"


def why_no_image() -> str:
    """What this machine lacks for building the image, "" for nothing."""
    if docker_pulls():
        return ""
    if os.geteuid() != 0:
        return "Docker cannot pull its base, and only root may make another"
    missing = [name for name in ("buildah", "debootstrap") if not shutil.which(name)]
    return f"Docker cannot pull its base, and {' and '.join(missing)} missing" if missing else ""


def operator_image() -> Path:
    """The image under NAME, as `docker save` writes it, from the cache or built. Raises
    ToolError."""
    folder = CACHE / "image"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="batten-image-") as temporary:
        context = build_context(Path(temporary))
        archive = folder / f"{_known(context)}.tar"
        with alone(folder, "waiting for another process that builds the image"):
            if not archive.exists():
                kept = sorted(folder.glob("*.tar"), key=lambda each: each.stat().st_mtime)
                for old in kept[:-2]:  # other work trees' may be in use
                    old.unlink()
                made = archive.with_suffix(".part")
                build(context, made)
                made.rename(archive)
    return archive


def build_context(folder: Path) -> Path:
    """What the Dockerfile copies, and a wheel of what stands here."""
    shutil.copy(DOCKERFILE, folder)
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "image", folder / "image", ignore=without)
    build_wheel(folder / "dist")
    return folder


def build_wheel(folder: Path, root: Path = ROOT) -> Path:
    """Raises ToolError."""
    command = ("uv", "build", "--quiet", "--wheel", f"--out-dir={folder}")
    _run(sys.executable, "-m", *command, str(root))
    (wheel,) = folder.glob("*.whl")
    return wheel


def build(context: Path, archive: Path) -> None:
    """As `make image` does. Raises ToolError."""
    say("building the operator's image, a minute or two")
    archive.unlink(missing_ok=True)
    if docker_pulls():
        tag = ("--tag", NAME, "--build-arg", f"VERSION={VERSION}")
        _run("docker", "build", *tag, str(context))
        _run("docker", "save", "--output", str(archive), NAME)
        return
    with _store() as store:
        _run(
            *store,
            "build",
            "--identity-label=false",
            "--isolation=chroot",
            "--network=host",
            # Whom this machine trusts, so that pip reaches the index as it does here.
            "--volume=/etc/ssl/certs:/etc/ssl/certs:ro",
            f"--timestamp={EPOCH}",
            "--build-arg=BUILD_BASE=localhost/build-base",
            "--build-arg=BASE=localhost/base",
            f"--build-arg=VERSION={VERSION}",
            f"--tag={NAME}",
            str(context),
        )
        _run(*store, "push", "--quiet", NAME, f"docker-archive:{archive}:{NAME}")
        _run(*store, "rmi", NAME)


@functools.cache
def docker_pulls() -> bool:
    """Whether Docker has the image's base, or gets it."""
    base = re.search(r"^ARG BASE=(\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    if not shutil.which("docker") or not base:
        return False
    command = ["docker", "pull", "--quiet", base[1]]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PULL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _known(context: Path) -> str:
    """The same for the same files, bases and builder."""
    seen = sha256(f"{docker_pulls()}{_bases()}".encode())
    for path in sorted(path for path in context.rglob("*") if path.is_file()):
        seen.update(f"{path.relative_to(context)}\n".encode() + path.read_bytes())
    return seen.hexdigest()[:12]


# --- bases --------------------------------------------------------------------------------------


def _bases() -> str:
    known = (SUITE, *PACKAGES, *UNNEEDED, ACCOUNTS, GROUP)
    return sha256(" ".join(known).encode()).hexdigest()[:12]


@contextmanager
def _store() -> Iterator[tuple[str, ...]]:
    """buildah on a store of our own, in which the bases are."""
    folder = CACHE / "image" / f"store-{_bases()}"
    with tempfile.TemporaryDirectory(prefix="batten-buildah-") as run:
        command = ("buildah", f"--root={folder}", f"--runroot={run}")
        if not (folder / "ready").exists():
            for old in folder.parent.glob("store-*"):
                shutil.rmtree(old)
            _make_bases(command)
            (folder / "ready").touch()
        yield command


def _make_bases(store: tuple[str, ...]) -> None:
    say("making bases for the operator's image from Debian's packages, two minutes")
    with tempfile.TemporaryDirectory(prefix="batten-base-") as temporary:
        root, base, packages = (Path(temporary) / name for name in ("root", "base", "packages"))
        include = "--include=ca-certificates,python3-pip"
        _run("debootstrap", "--variant=minbase", include, SUITE, str(root), debian_mirror())
        (root / "packages").mkdir()
        download = ("apt-get", "download", "-o", "APT::Sandbox::User=root", *PACKAGES)
        _run("chroot", str(root), "env", "--chdir=/packages", *download)
        (root / "packages").rename(packages)
        _extract(packages, base)
        for folder, name in ((root, "build-base"), (base, "base")):
            for unneeded in (*UNNEEDED, "var/cache/apt", "var/lib/apt/lists"):
                shutil.rmtree(folder / unneeded, ignore_errors=True)
            _import(store, folder, f"localhost/{name}")


def _extract(packages: Path, base: Path) -> None:
    """As a distroless image has packages: without what they do when they are installed, and each
    described where scanners look for it."""
    status = base / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for package in sorted(packages.glob("*.deb")):
        _run("dpkg-deb", "--extract", str(package), str(base))
        name = package.name.partition("_")[0]
        (status / name).write_text(_run("dpkg-deb", "--field", str(package)))
    bundle = base / "etc/ssl/certs/ca-certificates.crt"
    authorities = sorted((base / "usr/share/ca-certificates").rglob("*.crt"))
    bundle.write_text("".join(each.read_text() for each in authorities))
    (base / "etc/passwd").write_text(ACCOUNTS)
    (base / "etc/group").write_text(GROUP)
    for alias in ("python", "python3"):
        (base / "usr/bin" / alias).symlink_to("/usr/bin/python3.13")


def _import(store: tuple[str, ...], folder: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="batten-import-") as temporary:
        context = Path(temporary)
        _run(
            "tar",
            "--create",
            "--numeric-owner",
            f"--file={context}/root.tar",
            "-C",
            str(folder),
            ".",
        )
        (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\nENV LANG=C.UTF-8\n")
        _run(*store, "build", "--quiet", "--isolation=chroot", f"--tag={name}", str(context))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        what = " ".join(command[:4])
        raise ToolError(f"{what} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


# --- what is in it ------------------------------------------------------------------------------


def config_of(archive: Path) -> dict[str, Any]:
    """The image's configuration, as the OCI image specification has it."""
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(_member(tar, "manifest.json"))
        value = json.load(_member(tar, manifest["Config"]))
    assert isinstance(value, dict)
    return value


def _member(tar: tarfile.TarFile, name: str) -> Any:
    found = tar.extractfile(name)
    assert found is not None
    return found


@dataclass(frozen=True)
class Files:
    """What is in the image: of each path its entry, as the layer that comes last has it."""

    entries: dict[str, tarfile.TarInfo]

    @property
    def size(self) -> int:
        """In bytes, uncompressed: what it takes on a node."""
        return sum(entry.size for entry in self.entries.values() if entry.isreg())


def files_of(archive: Path) -> Files:
    entries: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(_member(tar, "manifest.json"))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_member(tar, layer)) as inner:
                for entry in inner:
                    path = entry.name.removeprefix("./").strip("/")
                    assert not Path(path).name.startswith(".wh."), f"{path}: a layer takes away"
                    entries[path] = entry
    return Files(entries)


def push(archive: Path, reference: str) -> str:
    """To a registry without TLS; its digest there. Raises ToolError."""
    with tempfile.TemporaryDirectory(prefix="batten-push-") as folder:
        store = ("buildah", f"--root={folder}/root", f"--runroot={folder}/run")
        name = _run(*store, "pull", "--quiet", f"docker-archive:{archive}").strip()
        options = ("--quiet", "--tls-verify=false", f"--digestfile={folder}/digest")
        _run(*store, "push", *options, name, f"docker://{reference}")
        return Path(folder, "digest").read_text()
