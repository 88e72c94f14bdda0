"""ImageProfile: what a cluster's own images need to run restricted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from batten_webhooks.image_facts import Profile
from batten_webhooks.image_pattern import ImagePattern, InvalidPattern, parse_pattern
from batten_webhooks.resources.invalid import validated
from batten_webhooks.resources.model import Metadata, Model

MOST_UID = 2**31 - 1
_PORT = re.compile(r"[1-9][0-9]{0,4}/(tcp|udp)", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,100}", re.ASCII)


def _repository(text: str) -> str:
    try:
        pattern = parse_pattern(text)
    except InvalidPattern as error:
        raise ValueError(f"{error}") from None
    if pattern.tag or pattern.digest:
        raise ValueError("must name repositories, whatever their tag: leave the tag out")
    return text


def _path(text: str) -> str:
    parts = text.split("/")
    below = {"", ".", ".."}.isdisjoint(parts[1:])
    if parts[0] or not below or ":" in text or not text.isprintable():
        raise ValueError("must be an absolute path without . and .., such as /var/cache/app")
    if parts[1] in ("proc", "sys", "dev"):
        raise ValueError("must not be of a filesystem of the kernel's")
    return text


def _port(text: str) -> str:
    if not _PORT.fullmatch(text) or int(text[:-4]) >= 2**16:
        raise ValueError("must be a port and its protocol, such as 80/tcp or 53/udp")
    return text


def _variables(said: dict[str, str]) -> dict[str, str]:
    for name in said:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an environment variable")
    return said


Repository = Annotated[str, AfterValidator(_repository), Field(max_length=500)]
WritablePath = Annotated[str, AfterValidator(_path), Field(max_length=255)]
Port = Annotated[str, AfterValidator(_port), Field(max_length=9)]
Value = Annotated[str, Field(max_length=1000)]
Id = Annotated[int, Field(ge=1, le=MOST_UID, json_schema_extra={"format": "int64"})]


class ProfileSpec(Model):
    """Which images, and what they need."""

    images: list[Repository] = Field(
        min_length=1,
        max_length=100,
        description="Repositories, such as registry.example/team/*: a registry (docker.io where"
        " there is none) and a repository, in each part of which one * may stand for anything, and"
        " everything below where it is the last part.",
    )
    run_as_user: Id = Field(
        description="The uid that containers get whose image runs as root or names its user by a"
        " word."
    )
    run_as_group: Id = Field(description="The gid that they get with it.")
    writable_paths: list[WritablePath] = Field(
        default=[],
        max_length=32,
        description="Where the program writes. An emptyDir is mounted there, which hides what the"
        " image has.",
    )
    data_paths: list[WritablePath] = Field(
        default=[],
        max_length=32,
        description="The same, of what the program starts as root to take over: a volume of yours"
        " is given to runAsGroup by the Pod's fsGroup, and one that takes none is refused.",
    )
    ports: list[Port] = Field(
        default=[],
        max_length=32,
        description="On which the program listens, such as 80/tcp, beside those that the image"
        " exposes.",
    )
    environment: Annotated[dict[str, Value], AfterValidator(_variables)] = Field(
        default={},
        max_length=32,
        description="Environment variables that the program needs to run restricted, by their"
        " names. They are set where neither env nor an envFrom could.",
    )


class ImageProfile(Model):
    """What images of one sort need to run as a user that is not root, on a read-only root
    filesystem. Of several that match the first by name counts, before those that Batten brings."""

    api_version: Literal["batten.dev/v1alpha1"]
    kind: Literal["ImageProfile"]
    metadata: Metadata
    spec: ProfileSpec = Field(description="Which images, and what they need.")


@dataclass(frozen=True, slots=True)
class ClusterProfile:
    """An ImageProfile as it is used."""

    images: tuple[ImagePattern, ...]
    profile: Profile


def read_profile(value: Any) -> ClusterProfile:
    """From an object of the API. Raises Invalid."""
    read = validated(ImageProfile, value)
    spec = read.spec
    return ClusterProfile(
        tuple(map(parse_pattern, spec.images)),
        Profile(
            name=read.metadata.name,
            user=spec.run_as_user,
            group=spec.run_as_group,
            writable=tuple(spec.writable_paths),
            data=tuple(spec.data_paths),
            ports=tuple(spec.ports),
            environment=spec.environment,
        ),
    )
