"""From the configurations of an image's platforms, what rules ask of it. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from batten_webhooks.image_facts import ImageFacts, Profile
from batten_webhooks.images.content import Healthcheck, PlatformImage

# Each is looked for among the mounts of each container.
MOST_VOLUMES = 32


def facts_of(platforms: Sequence[PlatformImage], profile: Profile | None) -> ImageFacts:
    """Platforms are built from one file: but for the user, the first speaks for all of them.

    Those of Windows are built from another, and speak where there is no other.
    """
    if not platforms:
        return ImageFacts(profile=profile)
    speaking = [each for each in platforms if each.platform.os != "windows"] or platforms
    users = {each.configuration.execution.user for each in speaking}
    first = speaking[0].configuration.execution
    return ImageFacts(
        user=users.pop() if len(users) == 1 else None,
        volumes=tuple(sorted(first.volumes or ())[:MOST_VOLUMES]),
        working_dir=first.working_dir,
        entrypoint=tuple(first.entrypoint or ()),
        cmd=tuple(first.cmd or ()),
        ports=tuple(sorted(first.exposed_ports or ())),
        healthcheck=_healthcheck(first.healthcheck),
        labels=first.labels or {},
        architectures=frozenset(each.platform.architecture for each in platforms),
        size=max(each.size for each in platforms),
        profile=profile,
    )


def _healthcheck(declared: Healthcheck | None) -> tuple[str, ...]:
    """`CMD` runs a program, `CMD-SHELL` a line; `NONE` and an empty list run nothing."""
    kind, *command = (declared.test if declared is not None else None) or ("NONE",)
    if kind == "CMD":
        return tuple(command)
    return ("sh", "-c", *command) if kind == "CMD-SHELL" else ()
