"""Real programs as images: Debian's packages, laid out as the programs' official images are.

All of them share one layer; what tells them apart is a small one on top and their configuration.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from batten_debian import UNNEEDED, make_root
from batten_tools import CACHE, ToolError, alone, say

from batten_webhooks.reference import parse_reference

SUITE = "bookworm"
PACKAGES = (
    "apache2",
    "gosu",
    "haproxy",
    "jetty9",
    "mariadb-server",
    "memcached",
    "nginx-light",
    "nodejs",
    "postgresql",
    "prometheus",
    "python3",
    "rabbitmq-server",
    "redis-server",
    "varnish",
)


def why_no_programs() -> str:
    """What this machine lacks for making the images, "" for nothing."""
    if os.geteuid() != 0:
        return "only root may make a root filesystem"
    return "" if shutil.which("debootstrap") or _archive().exists() else "debootstrap is missing"


def programs_layer() -> Path:
    """The layer that all images share, as a tar archive, from the cache or made of Debian's
    packages. Raises ToolError."""
    archive = _archive()
    archive.parent.mkdir(parents=True, exist_ok=True)
    with alone(archive.parent, "waiting for another process that makes the programs' layer"):
        if not archive.exists():
            say(f"installing {len(PACKAGES)} Debian packages for images, a few minutes")
            _make(archive)
    return archive


def _archive() -> Path:
    known = sha256(" ".join((SUITE, *PACKAGES, *UNNEEDED)).encode()).hexdigest()[:12]
    return CACHE / "programs" / f"{known}.tar"


def _make(archive: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="batten-root-") as folder:
        root = Path(folder) / "root"
        make_root(SUITE, PACKAGES, root)
        made = archive.with_suffix(".part")
        tar = ("tar", "--create", "--numeric-owner", f"--file={made}", f"--directory={root}", ".")
        done = subprocess.run(tar, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolError(f"tar failed:\n{done.stderr[-1500:]}")
        made.rename(archive)


@dataclass(frozen=True)
class Program:
    """`users` are what /etc/passwd says beside root, all of them at `home`; `files` are text by
    path, or a link as `-> target`; `owned` are folders by path with their owner's uid. `ask` is
    sent to `port`, and `answer` is in what comes back."""

    image: str
    port: int
    ask: bytes
    answer: bytes
    config: Mapping[str, Any]
    users: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    owned: Mapping[str, int] = field(default_factory=dict)
    home: str = "/"

    @property
    def repository(self) -> str:
        """As a registry knows it: without its host and tag."""
        return parse_reference(self.image).repository

    def layer(self) -> bytes:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            for path, uid in self.owned.items():
                folder = tarfile.TarInfo(path.strip("/"))
                folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o755, uid, uid
                tar.addfile(folder)
            accounts = {"root": 0, **self.users}
            passwd = "".join(
                f"{name}:x:{uid}:{uid}::{self.home}:/bin/sh\n" for name, uid in accounts.items()
            )
            group = "".join(f"{name}:x:{uid}:\n" for name, uid in accounts.items())
            for path, text in {
                "/etc/passwd": passwd,
                "/etc/group": group,
                **self.files,
            }.items():
                _add(tar, path, text)
        return data.getvalue()


def _add(tar: tarfile.TarFile, path: str, text: str) -> None:
    entry = tarfile.TarInfo(path.strip("/"))
    if text.startswith("-> "):
        entry.type, entry.linkname = tarfile.SYMTYPE, text.removeprefix("-> ")
        tar.addfile(entry)
        return
    data = text.encode()
    entry.size, entry.mode = len(data), 0o755 if text.startswith("#!") else 0o644
    tar.addfile(entry, io.BytesIO(data))
