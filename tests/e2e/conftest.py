"""One control plane with Batten on it for all end-to-end tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from batten_e2e import Kubectl, Namespace, new_namespace
from batten_install import Installation, webhooks_removed
from batten_session import Session, session


@pytest.fixture(scope="session")
def batten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """On the cluster of KUBECONFIG where one is given, else on a control plane of our own."""
    own = session(tmp_path_factory.mktemp("cluster"))
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
def audit_log(batten: Session) -> Callable[[str, str, str], dict[str, Any] | None]:
    """The first audit event of a namespace, resource and verb."""
    if not batten.own_cluster:
        pytest.skip("the audit log of a given cluster is not to be read from here")

    def find(namespace: str, resource: str, verb: str) -> dict[str, Any] | None:
        for line in batten.plane.audit_log.read_text().splitlines():
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
