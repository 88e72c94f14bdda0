"""Every profile says what it must, and where it is said."""

from __future__ import annotations

import posixpath
import re
import tomllib
from importlib.resources import files
from typing import Any

import pytest

from batten_webhooks.images import profiles
from batten_webhooks.reference import parse_reference

FILES = sorted(
    (each for each in files(profiles).iterdir() if each.name.endswith(".toml")),
    key=lambda each: each.name,
)


FACTS = {"user", "writable", "data", "owned", "guards", "ports", "environment"}
# The ports that EXPOSE names are facts of the image, too.
PORT = re.compile(r"[1-9][0-9]{0,4}/(tcp|udp)")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_profile(file: Any) -> None:
    said = tomllib.loads(file.read_text())
    assert said.keys() <= {"images", "group", "sources", "variants", *FACTS}
    assert said["sources"].keys() == said.keys() & FACTS
    assert all("https://" in source for source in said["sources"].values())
    for variant in said.get("variants", ()):
        assert variant.keys() <= {"tags", "user", "group"}
        assert variant["tags"]
    for each in (said, *said.get("variants", ())):
        assert 0 <= each.get("user", 1) < 2**31
        assert 0 < each.get("group", 1) < 2**31
    assert said["user"]
    owned = [path for paths in said.get("owned", {}).values() for path in paths]
    for path in (*said.get("writable", ()), *said.get("data", ()), *owned):
        assert path.startswith("/")
        assert posixpath.normpath(path) == path != "/"
    assert all(PORT.fullmatch(port) for port in said.get("ports", ()))
    for image in said["images"]:
        assert parse_reference(image).name == image


def test_the_most_used_images_have_one() -> None:
    assert len(FILES) >= 40


@pytest.mark.parametrize(
    ("image", "user"),
    [
        ("postgres", (999, 999)),
        ("postgres:17", (999, 999)),
        ("postgres:17-alpine3.22", (70, 70)),
        ("redis:7-alpine", (999, 1000)),
        ("rabbitmq:4-management-alpine", (100, 101)),
        ("wordpress:cli-2.12", (82, 82)),
        ("influxdb:2.7-alpine", (1000, 1000)),
        ("influxdb:1.8", None),
        ("influxdb", None),
        ("postgres:17-alpine@sha256:" + "0" * 64, (70, 70)),
        ("postgres@sha256:" + "0" * 64, None),  # it may be either
        ("memcached@sha256:" + "0" * 64, (11211, 11211)),
        ("busybox:1", None),
    ],
)
def test_a_tag_may_be_of_another_user(image: str, user: tuple[int, int] | None) -> None:
    found = profiles.profile_of(parse_reference(image))
    assert (found and (found.user, found.group)) == user


def test_an_image_has_one_by_its_repository() -> None:
    found = profiles.profile_of(parse_reference("nginx:1.27@sha256:" + "0" * 64))
    assert found is not None
    assert (found.name, found.user) == ("nginx", 101)
    assert profiles.profile_of(parse_reference("registry.example/library/nginx:1.27")) is None
    claimed = [image for file in FILES for image in tomllib.loads(file.read_text())["images"]]
    assert len(claimed) == len(set(claimed)) == len(profiles.profiles())
