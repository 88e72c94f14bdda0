"""Which credentials are for which image: the kubelet's own matching of pull secrets.

As `BasicDockerKeyring` in k8s.io/kubernetes/pkg/credentialprovider (v1.36): keys are compared by
the parts of their host with globs, by port and by the beginning of their path; the most specific
comes first.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from batten_webhooks.images.bounded import Bounded
from batten_webhooks.reference import DEFAULT_REGISTRY, Reference

# Under which `docker login` keeps what is for docker.io.
DOCKER_HUB = "index.docker.io"
DOCKER_HUB_KEY = f"https://{DOCKER_HUB}/v1/"
# Identities are compared within this process only.
MOST_IDENTITIES = 1_000
_SALT = secrets.token_bytes(32)


class InvalidSecret(ValueError):
    """The message completes "SECRET …" and holds nothing of the secret."""


@dataclass(frozen=True, slots=True)
class Credential:
    """`identity_token` is a refresh token of OAuth2, used instead of a password where it is set."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def identity(self) -> str:
        """Tells credentials apart without telling them."""
        parts = (self.username, self.password, self.identity_token)
        return hmac.digest(_SALT, msgspec.json.encode(parts), "sha256").hex()


ANYBODY = Credential()


class _Place(NamedTuple):
    host: tuple[str, ...]
    port: str
    path: str


class Keyring:
    """Credentials by the places that they are for, in the order that they were given in."""

    def __init__(self, entries: Iterable[tuple[str, Credential]] = ()) -> None:
        self._by_key: dict[str, list[Credential]] = {}
        for key, credential in entries:
            with suppress(ValueError):  # no URL, as the kubelet passes it over
                self._by_key.setdefault(_normal(key), []).append(credential)
        self._keys = sorted(self._by_key, reverse=True)
        self._identities = Bounded[str, str](MOST_IDENTITIES)

    def candidates(self, reference: Reference) -> list[Credential]:
        """To be tried one after the other; none where the image is to be had by anybody."""
        target = _place(reference.name)
        found = [
            credential
            for key in self._keys
            if _matches(_place(key), target)
            for credential in self._by_key[key]
        ]
        if not found and reference.registry == DEFAULT_REGISTRY:
            found = self._by_key.get(DOCKER_HUB, [])
        return list(dict.fromkeys(found))

    def identity(self, reference: Reference) -> str:
        """The same for keyrings that would try the same credentials for the image."""
        if not self._keys:
            return ""
        known = self._identities.get(reference.name)
        if known is None:
            identities = "".join(each.identity for each in self.candidates(reference))
            known = hashlib.sha256(identities.encode()).hexdigest() if identities else ""
            self._identities[reference.name] = known
        return known


def read_secret(kind: str, data: Mapping[str, bytes]) -> list[tuple[str, Credential]]:
    """The entries of a Secret of type kubernetes.io/dockerconfigjson, or of the older
    kubernetes.io/dockercfg. Raises InvalidSecret."""
    if kind == "kubernetes.io/dockerconfigjson":
        value = _object(data.get(".dockerconfigjson", b"")).get("auths")
        return read_auths(value if isinstance(value, dict) else {})
    if kind == "kubernetes.io/dockercfg":
        return read_auths(_object(data.get(".dockercfg", b"")))
    raise InvalidSecret(f"is of type {kind}: neither dockerconfigjson nor dockercfg")


def read_auths(auths: Mapping[str, Any]) -> list[tuple[str, Credential]]:
    """The entries under `auths` of a docker configuration. Raises InvalidSecret."""
    entries = []
    for key, value in auths.items():
        if not isinstance(value, dict):
            raise InvalidSecret("has an entry that is no object")
        credential = _credential(value)
        if credential != Credential():
            entries.append((key, credential))
    return entries


def _credential(value: Mapping[str, Any]) -> Credential:
    username, password = _text(value, "username"), _text(value, "password")
    auth, token = _text(value, "auth"), _text(value, "identitytoken")
    if auth:
        try:
            padded = auth + "=" * (-len(auth) % 4)
            username, colon, password = (
                base64.b64decode(padded, validate=True).decode().partition(":")
            )
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidSecret("has an auth that is not base64") from None
        if not colon:
            raise InvalidSecret("has an auth without a colon in it")
        password = password.strip("\x00")
    return Credential(username, password, token)


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _object(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidSecret("is not valid JSON") from None


def login_key(registry: str) -> str:
    """Under which docker keeps what is for a registry."""
    return DOCKER_HUB_KEY if registry == DEFAULT_REGISTRY else registry


def _normal(key: str) -> str:
    """Without a scheme, and without the version of the API that older clients wrote."""
    parts = urlsplit(key if "://" in key else f"https://{key}")
    path = parts.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return parts.netloc.rpartition("@")[2] + ("" if path == "/" else path)


def _place(key: str) -> _Place:
    host, slash, path = key.partition("/")
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name, port = host, ""
    return _Place(tuple(name.split(".")), port, slash + path)


def _matches(glob: _Place, target: _Place) -> bool:
    return (
        glob.port == target.port
        and len(glob.host) == len(target.host)
        and target.path.startswith(glob.path)
        and all(map(fnmatchcase, target.host, glob.host))
    )
