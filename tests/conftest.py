"""What holds for all tests.

`pytest --hypothesis-profile=thorough` looks a hundred times as long as usual.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Time says nothing on a machine that does other things besides; Pods are slow to make.
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)

settings.register_profile("default", deadline=None, suppress_health_check=SLOW)
settings.register_profile(
    "thorough", deadline=None, suppress_health_check=SLOW, max_examples=10_000
)
settings.load_profile("default")
