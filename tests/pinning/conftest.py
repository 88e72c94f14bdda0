"""A control plane whose operator asks a real registry."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from batten_e2e import Kubectl, Namespace, new_namespace
from batten_install import Installation
from batten_registry import Registry, registry
from batten_session import Session, session
from batten_wrong import wrong_registries


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """With a password and TLS."""
    with registry(tmp_path_factory.mktemp("guarded"), "htpasswd", tls=True) as found:
        yield found


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("tokens"), "token") as found:
        yield found


@pytest.fixture(scope="session")
def wrong() -> Iterator[dict[str, str]]:
    with wrong_registries() as found:
        yield found


@pytest.fixture(scope="session")
def batten(
    tmp_path_factory: pytest.TempPathFactory,
    plain: Registry,
    guarded: Registry,
    tokens: Registry,
    wrong: dict[str, str],
) -> Iterator[Session]:
    own = session(tmp_path_factory.mktemp("cluster"))
    assert tokens.tokens is not None
    hosts = (plain.host, tokens.host, tokens.tokens.host, *wrong.values())
    arguments = (
        "--look-up-images",
        f"--plain-http={','.join(hosts)}",
        f"--local-registry={guarded.host}",
        f"--registry-ca={guarded.ca}",
        "--digest-ttl=1s",
    )
    own = replace(own, installation=replace(own.installation, arguments=arguments))
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="session")
def operator(batten: Session) -> Installation:
    return batten.installation


@pytest.fixture
def kubectl(operator: Installation) -> Kubectl:
    return operator.kubectl


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Namespace]:
    with new_namespace(kubectl, f"pins-{uuid.uuid4().hex[:8]}") as fresh:
        yield fresh
