"""The chart, rendered by the real helm, and a real API server to apply it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from batten_chart import Rendered, render, without_definitions
from batten_cluster import ControlPlane
from batten_e2e import Kubectl


@pytest.fixture(scope="session")
def defaults() -> Rendered:
    return render()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("chart")) as running:
        running.kubectl("create", "namespace", "batten-system").require()
        yield running


@pytest.fixture
def kubectl(plane: ControlPlane) -> Kubectl:
    return plane.kubectl


@pytest.fixture
def applied(kubectl: Kubectl) -> Iterator[Callable[..., Rendered]]:
    """Apply the chart with some values; it is removed at the end, but for the definitions, whose
    deletion an API server takes its time for."""
    done: list[Rendered] = []

    def apply(**values: Any) -> Rendered:
        rendered = render(**values)
        kubectl("apply", "-f", "-", stdin=rendered.text).require()
        done.append(rendered)
        return rendered

    yield apply
    for rendered in done:
        manifests = without_definitions(rendered)
        kubectl("delete", "--ignore-not-found", "-f", "-", stdin=manifests).require()
