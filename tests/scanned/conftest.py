"""A control plane with Trivy Operator's kinds, whose operator asks a registry of the tests' own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from batten_e2e import Kubectl
from batten_install import Installation
from batten_registry import Registry, registry
from batten_reports import reports_definition
from batten_scanned import trivy_definitions
from batten_session import Session, session

# Nobody listens there.
AWAY = "127.0.0.1:9"
DIGEST_SECONDS = 20


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """With a password."""
    with registry(tmp_path_factory.mktemp("guarded"), "htpasswd") as found:
        yield found


@pytest.fixture(scope="session")
def batten(
    tmp_path_factory: pytest.TempPathFactory, plain: Registry, guarded: Registry
) -> Iterator[Session]:
    own = session(tmp_path_factory.mktemp("cluster"))
    arguments = (
        "--look-up-images",
        f"--plain-http={plain.host},{guarded.host},{AWAY}",
        f"--digest-ttl={DIGEST_SECONDS}s",
    )
    own = replace(own, installation=replace(own.installation, arguments=arguments))
    own.start()
    kubectl = own.installation.kubectl
    items = {"apiVersion": "v1", "kind": "List", "items": trivy_definitions()}
    kubectl("apply", "-f", "-", stdin=json.dumps(items)).require()
    kubectl("apply", "-f", "-", stdin=reports_definition()).require()
    yield own
    own.stop()


@pytest.fixture(scope="session")
def operator(batten: Session) -> Installation:
    return batten.installation


@pytest.fixture(scope="session")
def kubectl(operator: Installation) -> Kubectl:
    return operator.kubectl
