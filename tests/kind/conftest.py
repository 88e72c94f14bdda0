"""The kind cluster with Batten on it, made once, or what `make kind` has left."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from batten_e2e import Kubectl, Namespace, new_namespace
from batten_kind import KindCluster, cluster_for_tests, why_no_kind


@pytest.fixture(scope="session")
def cluster() -> KindCluster:
    """It stays: `make kind-down` removes it."""
    why = why_no_kind()
    if why:
        pytest.skip(why)
    return cluster_for_tests()


@pytest.fixture(scope="session")
def kubectl(cluster: KindCluster) -> Kubectl:
    return cluster.kubectl


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Namespace]:
    with new_namespace(kubectl, f"kind-{uuid.uuid4().hex[:8]}") as fresh:
        yield fresh
