"""What well-known images need to run restricted, one file each: a fact without its source is none.

images = ["docker.io/library/postgres"]    # repositories
user = 999                                 # and group: numbers, not 0
writable = ["/run/postgresql"]             # paths that it writes, and that are empty in it
data = ["/var/lib/postgresql"]             # such that it starts as root to take over
owned = {PGDATA = ["/var/lib/postgresql/data"]}  # its user's own, unless the variable moves it
guards = true                              # it refuses data that its group may read
ports = ["5432/tcp"]                       # on which it listens
environment = {NAME = "value"}             # what it needs to be told to run restricted
[sources]                                  # where each of these is said
[[variants]]                               # tags of which another user is true; the first counts
tags = ["*alpine*"]
user = 70                                  # 0: nothing is known of these
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from batten_webhooks.image_facts import Profile
from batten_webhooks.reference import Reference


@dataclass(frozen=True, slots=True)
class Described:
    """A profile, and those of tags that differ: None where nothing is known of these."""

    profile: Profile
    variants: tuple[tuple[tuple[str, ...], Profile | None], ...]

    def of(self, reference: Reference) -> Profile | None:
        if self.variants and reference.digest and not reference.tag:
            return None  # it may be any of them
        for tags, profile in self.variants:
            if any(fnmatchcase(reference.tag, tag) for tag in tags):
                return profile
        return self.profile


def profile_of(reference: Reference) -> Profile | None:
    """None for an image that nobody has described."""
    described = profiles().get(reference.name)
    return described.of(reference) if described is not None else None


@cache
def profiles() -> Mapping[str, Described]:
    """By the repository that each is for."""
    found: dict[str, Described] = {}
    for file in sorted(files(__name__).iterdir(), key=lambda each: each.name):
        name, _, extension = file.name.rpartition(".")
        if extension == "toml":
            said = tomllib.loads(file.read_text())
            found |= dict.fromkeys(said["images"], _described(name, said))
    return found


def _described(name: str, said: Mapping[str, Any]) -> Described:
    profile = Profile(
        name=name,
        user=said["user"],
        group=said["group"],
        writable=tuple(said.get("writable", ())),
        data=tuple(said.get("data", ())),
        owned={name: tuple(paths) for name, paths in said.get("owned", {}).items()},
        guards=said.get("guards", False),
        ports=tuple(said.get("ports", ())),
        environment=said.get("environment", {}),
    )
    variants = []
    for each in said.get("variants", ()):
        user, group = each.get("user", profile.user), each.get("group", profile.group)
        variant = replace(profile, user=user, group=group) if user else None
        variants.append((tuple(each["tags"]), variant))
    return Described(profile, tuple(variants))
