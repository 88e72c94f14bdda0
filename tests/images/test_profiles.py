"""Every profile says what it must, and where it is said."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import pytest

from batten_webhooks.images import profiles
from batten_webhooks.reference import parse_reference

FILES = sorted(
    (each for each in files(profiles).iterdir() if each.name.endswith(".toml")),
    key=lambda each: each.name,
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_profile(file: object) -> None:
    said = tomllib.loads(file.read_text())  # type: ignore[attr-defined]
    assert said.keys() <= {"images", "user", "group", "writable", "sources"}
    assert said["sources"].keys() == {"user", *(["writable"] if "writable" in said else [])}
    assert all("https://" in source for source in said["sources"].values())
    assert 0 < said["user"] < 2**31
    assert 0 < said["group"] < 2**31
    for path in said.get("writable", ()):
        assert path.startswith("/")
        assert path.rstrip("/") == path != ""
    for image in said["images"]:
        assert parse_reference(image).name == image


def test_an_image_has_one_whatever_its_tag() -> None:
    found = profiles.profile_of(parse_reference("nginx:1.27@sha256:" + "0" * 64))
    assert found is not None
    assert (found.name, found.user) == ("nginx", 101)
    assert profiles.profile_of(parse_reference("registry.example/library/nginx:1.27")) is None
    claimed = [image for file in FILES for image in tomllib.loads(file.read_text())["images"]]
    assert len(claimed) == len(set(claimed)) == len(profiles.profiles())
