"""Credentials as `docker login` leaves them: for the command line, never for a cluster's Pods.

https://docs.docker.com/reference/cli/docker/login/ (Credential stores, Credential helpers) and
https://github.com/docker/docker-credential-helpers.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from batten_webhooks.images.keyring import (
    Credential,
    InvalidSecret,
    Keyring,
    login_key,
    read_auths,
)

HELPER_SECONDS = 20.0
# What a helper gives as the user where the secret is an identity token.
TOKEN_USER = "<token>"  # noqa: S105 - the name of a kind of secret
_HELPER = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


class DockerConfigError(ValueError):
    """The message names the file or the helper, and nothing that is secret."""


class DockerConfig:
    """What a configuration file of docker's says; helpers are asked when a registry is."""

    def __init__(self, path: Path) -> None:
        """A file that is not there is an empty one. Raises DockerConfigError."""
        self._path = path
        value = _read(path)
        try:
            self._entries = read_auths(_mapping(value, "auths"))
        except InvalidSecret as error:
            raise DockerConfigError(f"{path}: {error}") from None
        self._helpers = _mapping(value, "credHelpers")
        self._store = value.get("credsStore") or ""
        self._keyrings: dict[str, Keyring] = {}

    def keyring(self, registry: str) -> Keyring:
        """What may be tried for images of the registry. Raises DockerConfigError."""
        if registry not in self._keyrings:
            self._keyrings[registry] = Keyring([*self._helped(registry), *self._entries])
        return self._keyrings[registry]

    def _helped(self, registry: str) -> list[tuple[str, Credential]]:
        server = login_key(registry)
        helper = self._helpers.get(server) or self._helpers.get(registry) or self._store
        if not helper:
            return []
        credential = _ask(self._path, helper, server)
        return [(server, credential)] if credential else []


def default_path() -> Path:
    """Where docker keeps its configuration: DOCKER_CONFIG is a folder. A user without a home, as
    containers have them, has none."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return Path(folder, "config.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes() or b"{}", type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise DockerConfigError(f"{path}: {reason}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise DockerConfigError(f"{path}: is not valid JSON") from None


def _mapping(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _ask(path: Path, helper: Any, server: str) -> Credential | None:
    """What the helper knows of the server, None for nothing. Raises DockerConfigError."""
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        raise DockerConfigError(f"{path}: {helper!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(  # noqa: S603 - the user's own configuration names it
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise DockerConfigError(f"{path}: {program} is not on PATH") from None
    except OSError as error:
        raise DockerConfigError(f"{program}: {(error.strerror or '').lower()}") from None
    except subprocess.TimeoutExpired:
        raise DockerConfigError(f"{program}: no answer within {HELPER_SECONDS:g} s") from None
    if done.returncode:
        return None  # helpers have no other way to say that they know nothing
    try:
        told = msgspec.json.decode(done.stdout, type=dict[str, Any])
        user, secret = str(told["Username"]), str(told["Secret"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        raise DockerConfigError(f"{program}: did not answer with a credential") from None
    return Credential("", "", secret) if user == TOKEN_USER else Credential(user, secret)
