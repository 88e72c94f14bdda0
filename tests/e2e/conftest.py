"""One control plane with Batten on it for all end-to-end tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from batten_e2e import Kubectl, Namespace, new_namespace
from batten_install import Installation, Released, webhooks_removed
from batten_session import Session, released, session


@pytest.fixture(scope="session")
def batten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session | None]:
    """On the cluster of KUBECONFIG where one is given, else on a control plane of our own; none
    where a release of the chart is there already."""
    if released():
        yield None
        return
    own = session(tmp_path_factory.mktemp("cluster"))
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="session")
def operator(batten: Session | None) -> Installation | Released:
    found = batten.installation if batten else released()
    assert found
    return found


@pytest.fixture(scope="session")
def process(operator: Installation | Released) -> Installation:
    """The operator where it is a process beside the cluster."""
    if isinstance(operator, Released):
        pytest.skip("the operator runs in the cluster, not as a process of this machine")
    return operator


@pytest.fixture
def kubectl(operator: Installation | Released) -> Kubectl:
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
def without_batten(
    operator: Installation | Released,
) -> Callable[[], AbstractContextManager[None]]:
    return lambda: webhooks_removed(operator, "mutating", "validating")


@pytest.fixture
def without_mutation(
    operator: Installation | Released,
) -> Callable[[], AbstractContextManager[None]]:
    return lambda: webhooks_removed(operator, "mutating")


@pytest.fixture
def audit_log(batten: Session | None) -> Callable[[str, str, str], dict[str, Any] | None]:
    """The first audit event of a namespace, resource and verb."""
    if not batten or not batten.own_cluster:
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
