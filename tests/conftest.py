"""What holds for all tests.

`pytest --hypothesis-profile=thorough` looks a hundred times as long as usual.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Time says nothing on a machine that does other things besides; Pods are slow to make.
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)

settings.register_profile("default", deadline=None, suppress_health_check=SLOW)
settings.register_profile(
    "thorough", deadline=None, suppress_health_check=SLOW, max_examples=10_000
)
settings.load_profile("default")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a control plane run in one worker, so that they share it."""
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))
