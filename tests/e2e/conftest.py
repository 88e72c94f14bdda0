"""One control plane with Batten on it for all end-to-end tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from batten_cluster import ControlPlane
from batten_e2e import Kubectl, Namespace, new_namespace
from batten_install import Installation, webhooks_removed


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def operator(plane: ControlPlane) -> Installation:
    """The installation; the control plane's `stop` ends its process too."""
    installation = Installation(plane, plane.kubectl)
    installation.install()
    return installation


@pytest.fixture
def kubectl(operator: Installation) -> Kubectl:
    return operator.kubectl


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Namespace]:
    with new_namespace(kubectl, f"e2e-{uuid.uuid4().hex[:8]}") as fresh:
        yield fresh


@pytest.fixture
def restricted_namespace(kubectl: Kubectl) -> Iterator[Namespace]:
    """Where Kubernetes' own Pod Security admission enforces `restricted` beside us."""
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    with new_namespace(kubectl, f"e2e-{uuid.uuid4().hex[:8]}", labels) as fresh:
        yield fresh


@pytest.fixture
def without_batten(operator: Installation) -> Callable[[], AbstractContextManager[None]]:
    return lambda: webhooks_removed(operator, "mutating", "validating")


@pytest.fixture
def without_mutation(operator: Installation) -> Callable[[], AbstractContextManager[None]]:
    return lambda: webhooks_removed(operator, "mutating")


@pytest.fixture
def audit_log(plane: ControlPlane) -> Callable[[str, str, str], dict[str, Any] | None]:
    """The first audit event of a namespace, resource and verb."""

    def find(namespace: str, resource: str, verb: str) -> dict[str, Any] | None:
        for line in plane.audit_log.read_text().splitlines():
            event: dict[str, Any] = json.loads(line)
            reference = event.get("objectRef", {})
            if (reference.get("namespace"), reference.get("resource"), event["verb"]) == (
                namespace,
                resource,
                verb,
            ):
                return event
        return None

    return find
