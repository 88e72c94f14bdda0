"""Debian's packages, of any suite, taken from where apt of this machine takes its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from batten_tools import ToolError, debian_mirror

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What no program needs at run time.
UNNEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "boot")


def download(suite: str, packages: Sequence[str], folder: Path) -> list[Path]:
    """Packages, checked by apt against Debian's keys; the system's own apt notices nothing.
    Raises ToolError."""
    apt = folder / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {debian_mirror()} {suite} main\n")
    config = apt / "apt.conf"
    config.write_text(
        f'Dir::State "{apt}";\n'
        'Dir::State::status "/dev/null";\n'
        f'Dir::Cache "{apt}/cache";\n'
        f'Dir::Etc::sourcelist "{apt}/sources.list";\n'
        'Dir::Etc::sourceparts "-";\n'
        'APT::Sandbox::User "root";\n'
    )
    for command in (["update"], ["download", *packages]):
        _run("apt-get", "-qq", *command, cwd=folder, APT_CONFIG=str(config))
    return sorted(folder.glob("*.deb"))


def make_root(suite: str, packages: Sequence[str], root: Path) -> None:
    """A root filesystem with these packages and what they need. Raises ToolError."""
    _run("debootstrap", "--variant=minbase", suite, str(root), debian_mirror())
    proc = root / "proc"
    _run("mount", "-t", "proc", "proc", str(proc))
    policy = root / "usr/sbin/policy-rc.d"
    try:
        # Nothing may be started in there.
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        install = ("apt-get", "install", "-y", "--no-install-recommends", *packages)
        _run("chroot", str(root), *install, DEBIAN_FRONTEND="noninteractive")
        _run("chroot", str(root), "apt-get", "clean")
    finally:
        _run("umount", str(proc))
    for name in UNNEEDED:
        shutil.rmtree(root / name, ignore_errors=True)


def _run(*command: str, cwd: Path | None = None, **environment: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        raise ToolError(f"{command[0]} is missing") from None
    if done.returncode:
        told = f"{done.stdout[-500:]}{done.stderr[-1500:]}"
        raise ToolError(f"{' '.join(command[:3])} failed:\n{told}")
