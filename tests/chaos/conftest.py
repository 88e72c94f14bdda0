"""A control plane of a module's own, with both of Batten's parts at work on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from batten_chaos import Stage, stage


@pytest.fixture(scope="module")
def batten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("chaos")) as ready:
        ready.webhooks()
        ready.launch("controller", "controller")
        ready.renewed()
        yield ready
