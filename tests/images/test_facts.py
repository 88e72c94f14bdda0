"""What rules are told of an image with many platforms."""

from __future__ import annotations

import pytest

from batten_webhooks.images.content import Configuration, Execution, PlatformImage
from batten_webhooks.images.facts import MOST_VOLUMES, facts_of


def platform(os: str, user: str, architecture: str = "amd64") -> PlatformImage:
    configuration = Configuration(os, architecture, config=Execution(user=user, cmd=[os]))
    return PlatformImage(configuration.platform, f"sha256:{os}", 1, configuration)


@pytest.mark.parametrize(
    ("platforms", "user", "cmd"),
    [
        ([platform("linux", "1000"), platform("linux", "1000", "arm64")], "1000", "linux"),
        ([platform("linux", "1000"), platform("linux", "0", "arm64")], None, "linux"),
        ([platform("windows", "ContainerUser"), platform("linux", "1000")], "1000", "linux"),
        ([platform("windows", "ContainerUser")], "ContainerUser", "windows"),
        ([platform("", "1000")], "1000", ""),
    ],
)
def test_what_a_linux_node_runs_speaks(
    platforms: list[PlatformImage], user: str | None, cmd: str
) -> None:
    found = facts_of(platforms, None)
    assert (found.user, found.cmd) == (user, (cmd,))
    assert found.architectures == {each.platform.architecture for each in platforms}


def test_no_more_volumes_are_told_than_an_image_has() -> None:
    volumes: dict[str, object] = {f"/v{n:04}": {} for n in range(1000)}
    configuration = Configuration("linux", config=Execution(volumes=volumes))
    found = facts_of([PlatformImage(configuration.platform, "x", 1, configuration)], None)
    assert found.volumes == tuple(volumes)[:MOST_VOLUMES]
