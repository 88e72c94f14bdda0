"""Indexes, manifests and configurations of images, as their bytes say. Pure: no I/O.

https://github.com/opencontainers/image-spec/tree/v1.1.0 (image-index.md, manifest.md, config.md);
Docker's own media types mean the same. Schema 1, whose digest is not of its bytes, is none of them.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from batten_webhooks.images.errors import RegistryError
from batten_webhooks.messages import printable
from batten_webhooks.reference import DIGEST_LENGTHS

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset((OCI_INDEX, DOCKER_LIST))
MEDIA_TYPES = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)
# A registry should take manifests of 4 MiB (distribution specification, "Pushing Manifests").
MOST_BYTES = 4 * 2**20
MOST_MANIFESTS = 100
# A configuration of this size is a large one; what it lists beyond that is passed over, so that
# whoever writes one decides neither what is held in memory nor how long a review takes.
MOST_CONFIGURATION_BYTES, MOST_LISTED = 2**20, 1000

# As the specification's descriptors have it (descriptor.md): an int64.
Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]
S = TypeVar("S", bound=Struct)


class Platform(Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return printable("/".join(filter(None, (self.os, self.architecture, self.variant))))


class Descriptor(Struct, frozen=True):
    """`size` is in bytes."""

    digest: str = ""
    size: Size = 0
    media_type: str = field(default="", name="mediaType")
    platform: Platform | None = None
    artifact_type: str = field(default="", name="artifactType")
    annotations: dict[str, str] | None = None


class Index(Struct, frozen=True):
    manifests: list[Descriptor]

    @property
    def images(self) -> list[Descriptor]:
        """Those that run somewhere: attestations, which builders add, are of `unknown/unknown`."""
        return [
            each
            for each in self.manifests
            if each.platform is None or each.platform.architecture != "unknown"
        ]


class Manifest(Struct, frozen=True):
    """`subject` is what it is about, where that is another manifest."""

    config: Descriptor
    layers: list[Descriptor] | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None

    @property
    def size(self) -> int:
        """Of what is pulled, compressed, in bytes."""
        return self.config.size + sum(layer.size for layer in self.layers or ())


class Healthcheck(Struct, frozen=True):
    """`interval` and its neighbours are in nanoseconds."""

    test: list[str] | None = field(default=None, name="Test")
    interval: int = field(default=0, name="Interval")
    timeout: int = field(default=0, name="Timeout")
    start_period: int = field(default=0, name="StartPeriod")
    retries: int = field(default=0, name="Retries")


class Execution(Struct, frozen=True):
    """The `config` of an image's configuration: how its containers are started."""

    user: str = field(default="", name="User")
    exposed_ports: dict[str, Any] | None = field(default=None, name="ExposedPorts")
    entrypoint: list[str] | None = field(default=None, name="Entrypoint")
    cmd: list[str] | None = field(default=None, name="Cmd")
    volumes: dict[str, Any] | None = field(default=None, name="Volumes")
    working_dir: str = field(default="", name="WorkingDir")
    labels: dict[str, str] | None = field(default=None, name="Labels")
    healthcheck: Healthcheck | None = field(default=None, name="Healthcheck")


class Configuration(Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    config: Execution | None = None

    @property
    def execution(self) -> Execution:
        return self.config or Execution()

    @property
    def platform(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant)


class PlatformImage(Struct, frozen=True):
    """What one platform's nodes would run: `digest` is its manifest's, `configuration_digest` what
    runtimes call the image's id. `size` is what they pull, compressed, in bytes."""

    platform: Platform
    digest: str
    size: int
    configuration: Configuration
    configuration_digest: str = ""


class _MediaType(Struct):
    media_type: str = field(default="", name="mediaType")


def read_manifest(data: bytes, content_type: str, most: int = MOST_MANIFESTS) -> Index | Manifest:
    """What the registry calls `content_type`. Raises RegistryError where it is something else, or
    has more than `most` manifests."""
    own = _decode(data, _MediaType, "manifest").media_type or content_type
    if own != content_type:
        kinds = (
            f"calls itself {printable(own)}, and the registry calls it {printable(content_type)}"
        )
        raise RegistryError("invalid", f"its manifest {kinds}")
    check_media_type(content_type)
    if content_type not in INDEXES:
        return _decode(data, Manifest, "manifest")
    index = _decode(data, Index, "index")
    if len(index.manifests) > most:
        raise RegistryError("invalid", f"its index has more than {most} manifests")
    return index


def read_configuration(data: bytes) -> Configuration:
    """With the first MOST_LISTED of each thing that it lists. Raises RegistryError."""
    found = _decode(data, Configuration, "configuration")
    cut = _cut(found.execution)
    health = found.execution.healthcheck
    if health is not None and (few := _cut(health)):
        cut["healthcheck"] = replace(health, **few)
    return replace(found, config=replace(found.execution, **cut)) if cut else found


def _cut(value: Struct) -> dict[str, Any]:
    """The fields that list too much, and what is left of each."""
    listed = ((name, getattr(value, name)) for name in value.__struct_fields__)
    return {
        name: dict(islice(found.items(), MOST_LISTED))
        if isinstance(found, dict)
        else found[:MOST_LISTED]
        for name, found in listed
        if isinstance(found, dict | list) and len(found) > MOST_LISTED
    }


def check_media_type(content_type: str) -> None:
    """Raises RegistryError for what is no image, or one that nobody should run any more."""
    if content_type not in MEDIA_TYPES:
        told = printable(content_type) or "nothing"
        raise RegistryError("invalid", f"the registry calls its manifest {told}: not an image")


def check_digest(data: bytes, digest: str) -> None:
    """Raises RegistryError where the bytes are not those that the digest names."""
    algorithm, _, expected = digest.partition(":")
    if hashlib.new(checked_digest(digest).partition(":")[0], data).hexdigest() != expected:
        raise RegistryError("invalid", f"what the registry sent is not {algorithm}:{expected}")


def checked_digest(digest: str) -> str:
    """The digest itself. Raises RegistryError where it is none."""
    algorithm, _, digits = digest.partition(":")
    lowercase = set(digits) <= set("0123456789abcdef")
    if DIGEST_LENGTHS.get(algorithm) != len(digits) or not lowercase:
        raise RegistryError("invalid", f"{printable(digest)[:200]!r} is no digest")
    return digest


def _decode(data: bytes, shape: type[S], what: str) -> S:
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError("invalid", f"the registry sent no {what}: {error}") from None
