"""What of a container's writes needs a volume. That it is seen is shown in tests/node."""

from __future__ import annotations

import pytest

from batten_operator.learn import outermost


@pytest.mark.parametrize(
    ("lines", "paths"),
    [
        ([], []),
        (["."], []),
        (["./etc", "./run", "./run/secrets", "./run/secrets/kubernetes.io"], []),
        (["./etc/", "./run/"], ["/etc", "/run"]),
        (["./var/cache/app", "./var/cache/app/x/", "./var/cache/app/y"], ["/var/cache/app"]),
        (["./var/cache/app", "./var/cache/apple/"], ["/var/cache/app", "/var/cache/apple"]),
        (["./tmp/", "./tmp", "./tmp/x/", "./dev/", "./proc/x", "./sys/"], []),
        (["./"], []),
    ],
)
def test_paths_that_need_a_volume(lines: list[str], paths: list[str]) -> None:
    assert outermost(lines) == paths
