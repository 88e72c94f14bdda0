"""What well-known images need to run restricted, one file each: a fact without its source is none.

images = ["docker.io/library/memcached"]   # repositories, whatever their tag
user = 11211                               # and group: numbers, not 0
writable = ["/run"]                        # paths that it writes, and that are empty in it
[sources]                                  # where each of these is said
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from batten_webhooks.image_facts import Profile
from batten_webhooks.reference import Reference


def profile_of(reference: Reference) -> Profile | None:
    """None for an image that nobody has described."""
    return profiles().get(reference.name)


@cache
def profiles() -> Mapping[str, Profile]:
    """By the repository that each is for."""
    found: dict[str, Profile] = {}
    for file in sorted(files(__name__).iterdir(), key=lambda each: each.name):
        name, _, extension = file.name.rpartition(".")
        if extension != "toml":
            continue
        said = tomllib.loads(file.read_text())
        profile = Profile(name, said["user"], said["group"], tuple(said.get("writable", ())))
        found |= dict.fromkeys(said["images"], profile)
    return found
