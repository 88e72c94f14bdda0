"""Docker: the one at hand, or Debian's, unpacked beside the system and ended with its last user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from batten_cluster import ControlPlane
from batten_debian import KEYRING, download
from batten_e2e import Output, run
from batten_tools import CACHE, ToolError, alone, say

# Debian 12's own Docker fails on privileged containers where root lacks a capability. What is newer
# of it runs there, but for runc, whose newer one wants a newer libc.
SUITE = "trixie"
PACKAGES = ("docker.io", "docker-cli", "containerd", "tini")
# On PATH at any rate.
NEEDED = ("runc", "iptables")
# A socket's name must be short; images outlast the daemon.
RUN, DATA = Path("/run/batten-docker"), CACHE / "docker" / "data"
ANSWER_SECONDS, START_SECONDS = 20, 60.0


@dataclass(frozen=True)
class Docker:
    """`environment` is what its clients need: kind, and the docker command."""

    environment: Mapping[str, str]
    own: bool = False

    def __call__(self, *arguments: str, timeout: float = 60) -> Output:
        """The docker command."""
        settings = [f"{key}={value}" for key, value in self.environment.items()]
        return run("env", *settings, "docker", *arguments, timeout=timeout)

    def why_not(self) -> str:
        """Why it does not answer, "" where it does."""
        search = self.environment.get("PATH", os.environ["PATH"])
        if not shutil.which("docker", path=search):
            return "there is no `docker` on PATH"
        try:
            asked = self("version", "--format", "{{.Server.Version}}", timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            return f"its daemon does not answer within {ANSWER_SECONDS} s"
        if not asked.code:
            return ""
        return (asked.stderr.strip() or "its daemon does not answer").splitlines()[-1]


def why_no_docker() -> str:
    """Why there is no Docker, and none can be had either; "" where there is."""
    why = Docker({}).why_not()
    own = _why_none_of_our_own()
    return f"{why}, and none of our own is started: {own}" if why and own else ""


def docker() -> Docker:
    """One that answers: this machine's, else one of our own. Raises ToolError."""
    given = Docker({})
    why = given.why_not()
    if not why:
        return given
    cannot = _why_none_of_our_own()
    if cannot:
        raise ToolError(f"kind needs Docker: {why}; and none of our own is started: {cannot}")
    RUN.mkdir(mode=0o700, exist_ok=True)
    with alone(RUN, "waiting for another process that starts Docker"):
        return _own(why)


def running() -> Docker | None:
    """One that answers already, this machine's or our own."""
    return next((each for each in (Docker({}), _clients()) if not each.why_not()), None)


def end() -> None:
    """End the daemon of our own, if there is one; its images stay in the cache."""
    programs = _programs()
    if not programs.running("dockerd"):
        return
    programs.end("dockerd")
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        at = line.split()[1]
        if at.startswith((f"{DATA}/", f"{RUN}/")):
            run("umount", "--lazy", at)
    shutil.rmtree(RUN, ignore_errors=True)
    run("ip", "link", "delete", "docker0")
    _forget_rules()


def _forget_rules() -> None:
    """What the daemon leaves in the packet filter."""
    for program in ("iptables", "ip6tables"):
        rules = run("env", f"PATH={_path()}", f"{program}-save").stdout.splitlines(keepends=True)
        kept = "".join(line for line in rules if "docker" not in line.lower())
        run("env", f"PATH={_path()}", f"{program}-restore", stdin=kept)


def _why_none_of_our_own() -> str:
    if os.geteuid() != 0:
        return "only root may run its daemon"
    lacking = [name for name in NEEDED if not shutil.which(name, path=_path())]
    if not _folder().exists():
        lacking += [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
        lacking += [] if KEYRING.exists() else [str(KEYRING)]
    return f"{' and '.join(lacking)} missing" if lacking else ""


def _own(why: str) -> Docker:
    clients = _clients()
    if not clients.why_not():
        return clients
    say(f"no Docker of this machine ({why}): starting one of our own")
    folder, started = _unpacked(), time.monotonic()
    for stale in ("docker.pid", "docker.sock"):
        (RUN / stale).unlink(missing_ok=True)
    programs = _programs()
    command = [
        str(folder / "usr/sbin/dockerd"),
        f"--data-root={DATA}",
        f"--exec-root={RUN}/exec",
        f"--pidfile={RUN}/docker.pid",
        f"--host=unix://{RUN}/docker.sock",
        f"--userland-proxy-path={folder}/usr/sbin/docker-proxy",
        f"--init-path={folder}/usr/bin/tini-static",
        "--config-file=/dev/null",
    ]
    programs.spawn("dockerd", command, PATH=_path())
    try:
        while clients.why_not():
            late = time.monotonic() > started + START_SECONDS
            if late or not programs.running("dockerd"):
                words = (RUN / "dockerd.log").read_text(errors="replace")[-2000:]
                raise ToolError(f"our own Docker does not come up; its last words:\n{words}")
            time.sleep(0.2)
    except BaseException:
        programs.end("dockerd", signal.SIGTERM)
        raise
    say(f"Docker answers after {time.monotonic() - started:.1f} s")
    return clients


def _clients() -> Docker:
    return Docker({"DOCKER_HOST": f"unix://{RUN}/docker.sock", "PATH": _path()}, own=True)


def _programs() -> ControlPlane:
    """Who keeps processes in a folder: a daemon outlives the command that started it."""
    return ControlPlane(RUN)


def _path() -> str:
    """Ours first, but for runc, which is the system's."""
    folder = _folder()
    return f"{folder}/usr/bin:{folder}/usr/sbin:{os.environ['PATH']}:/usr/sbin:/sbin"


def _folder() -> Path:
    known = sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    return CACHE / "docker" / known


def _unpacked() -> Path:
    """Debian's packages, unpacked into the cache. Raises ToolError."""
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.parent, "waiting for another process that unpacks Docker"):
        if folder.exists():
            return folder
        say(f"unpacking Docker from Debian {SUITE}")
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            for package in download(SUITE, PACKAGES, Path(temporary)):
                run("dpkg-deb", "--extract", str(package), f"{temporary}/root").require()
            Path(temporary, "root").rename(folder)
    return folder
