"""What an image says of itself, as far as rules ask. Plain data.

https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md#properties
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SHELLS = frozenset(("sh", "bash", "ash", "dash", "cmd", "powershell"))


@dataclass(frozen=True, slots=True)
class Profile:
    """What one known image needs to run restricted: a user that is not root, and paths that it
    writes, which are empty in the image. `name` is the profile's own.

    `data` are the paths that it takes over as root at its start; `owned` are those whose owner it
    must be, by the environment variable that names another. A program that `guards` its data
    refuses what its group may read, which fsGroup makes of it. `ports` are as `80/tcp`;
    `environment` is what it needs to be told to run restricted.
    """

    name: str
    user: int
    group: int
    writable: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    owned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    guards: bool = False
    ports: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where something must be mounted to write to."""
        return self.writable + self.data


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """`user` is None where the image's platforms differ in it. `ports` are as `80/tcp`, `size` is
    what a node pulls, compressed, in bytes, of the largest platform; `healthcheck` is the command
    that HEALTHCHECK runs, in exec form.
    """

    user: str | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    architectures: frozenset[str] = frozenset()
    size: int = 0
    profile: Profile | None = None

    @property
    def shell_form(self) -> str:
        """The line that a shell is started with, "" for a program that is started by itself.

        A shell that does not `exec` its program is process 1 instead of it, and passes on no
        signal (https://docs.docker.com/reference/dockerfile/#shell-form-entrypoint-example).
        """
        command = self.entrypoint or self.cmd
        if len(command) < 3 or command[0].rpartition("/")[2] not in SHELLS or command[1] != "-c":
            return ""
        return "" if command[2].lstrip().startswith("exec ") else command[2]
