"""Patterns of images: what they match, and above all what they do not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.image_pattern import InvalidPattern, parse_pattern
from batten_webhooks.reference import InvalidReference, parse_reference

DIGEST = "sha256:" + "0" * 64

MATCHING = [
    ("registry.example/team/*", "registry.example/team/app:1"),
    ("registry.example/team/*", "registry.example/team/deep/er/app@" + DIGEST),
    ("nginx", "nginx:1.27"),
    ("nginx", "docker.io/library/nginx"),
    ("docker.io/library/nginx", "index.docker.io/library/nginx"),
    ("bitnami/*", "docker.io/bitnami/redis"),
    ("localhost:5000/a-*/app", "localhost:5000/a-team/app"),
    ("nginx:1.*", "nginx:1.27"),
    ("nginx:latest", "nginx"),
    ("nginx@" + DIGEST, "nginx:1.27@" + DIGEST),
    ("docker.io/*", "nginx"),
    ("docker.io/*", "bitnami/redis:7"),
    ("index.docker.io/bitnami/*", "bitnami/redis"),
    ("nginx*", "nginx-unprivileged"),
    ("docker.io/library/*:1", "redis:1"),
    ("registry.example:5000/*/app-*", "registry.example:5000/team/app-web"),
    ("registry.example/*/*/*", "registry.example/a/b/c/d"),
    ("registry.example/*-team/*-app:v*", "registry.example/a-team/b-app:v2"),
    ("registry.example/*/app", "registry.example/team/app@" + DIGEST),
    ("[2001:db8::1]:5000/team/*", "[2001:db8::1]:5000/team/app"),
]
FOREIGN = [
    ("registry.example/team/*", "registry.example/team-evil/app"),
    ("registry.example/team/*", "registry.example/teams/app"),
    ("registry.example/team/*", "registry.example/team:1"),
    ("registry.example/team/*", "registry.example.evil/team/app"),
    ("registry.example/team/*", "registry.example:443/team/app"),
    ("registry.example/team/*", "evil.example/registry.example/team/app"),
    ("registry.example/team/*", "Registry.example/team/app"),
    ("registry.example/team/app", "registry.example/team/app/evil"),
    ("registry.example/a*/app", "registry.example/a/b/app"),
    ("nginx", "evil/nginx"),
    ("nginx", "nginx-evil"),
    ("nginx:1.27", "nginx:1.27@" + DIGEST),  # what runs is the digest
    ("nginx:1.*", "nginx:2.1"),
    ("nginx@" + DIGEST, "nginx:1.27"),
    ("nginx", ""),
    ("nginx", "nginx "),
    ("nginx", "NGINX"),
    ("docker.io/*", "registry.example/app"),
    ("nginx*", "bitnami/nginx"),
    ("library/*", "bitnami/redis"),
    ("registry.example:5000/team/*", "registry.example/team/app"),
    ("registry.example:5000/team/*", "registry.example:50001/team/app"),
    ("localhost/team/*", "localhost:5000/team/app"),
    ("registry.example/*/*/*", "registry.example/a/b"),
    ("registry.example/*/app", "registry.example/a/b/app"),
    ("registry.example/*/app", "registry.example/app"),
    ("registry.example/ab*ba/x", "registry.example/aba/x"),
    ("nginx:*", "nginx:1.27@" + DIGEST),
    ("nginx:*", "nginx@" + DIGEST),
    ("nginx:latest", "nginx@" + DIGEST),
    ("nginx@" + DIGEST, "nginx@sha256:" + "1" * 64),
    ("nginx@" + DIGEST, "nginx@sha512:" + "0" * 128),
    ("x/z0anything0z", "x/evil"),
]


@pytest.mark.parametrize(("pattern", "image"), MATCHING)
def test_a_pattern_matches(pattern: str, image: str) -> None:
    assert parse_pattern(pattern).matches(image)


@pytest.mark.parametrize(("pattern", "image"), FOREIGN)
def test_a_pattern_matches_nothing_that_only_looks_like_it(pattern: str, image: str) -> None:
    assert not parse_pattern(pattern).matches(image)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("*", "every image"),
        ("*/*", "every image"),
        ("", "every image"),
        ("*.example/team/app", "must be exact"),
        ("registry.example/a*b*/app", "more than one"),
        ("registry.example/Team/*", "capitals"),
        ("registry.example/te am/*", "whitespace"),
        ("*:5000/app", "must be exact"),
        ("localhost:*/app", "must be exact"),
        ("nginx@sha256:*", "is not of the form"),
        ("nginx@*", "is not of the form"),
        ("registry.example/team/", "is not of the form"),
        ("registry.example//*", "is not of the form"),
        ("registry.example/**", "more than one"),
        ("registry.example/../*", "is not of the form"),
        ("a" * 256, "more than 255"),
        ("0" * 64, "image ID"),
    ],
)
def test_a_pattern_that_is_none(pattern: str, complaint: str) -> None:
    with pytest.raises(InvalidPattern, match=complaint):
        parse_pattern(pattern)


@given(st.text(alphabet="abz019*./:@-_A \n", max_size=60), st.text(max_size=60))
def test_a_pattern_is_read_or_refused(text: str, image: str) -> None:
    try:
        pattern = parse_pattern(text)
    except InvalidPattern:
        return
    assert pattern.matches(image) in {True, False}


@given(
    st.from_regex(
        r"([a-z]{1,5}\.[a-z]{2}/)?[a-z]{1,4}(/[a-z]{1,4}){0,2}(:[a-z0-9]{1,4})?", fullmatch=True
    )
)
def test_a_reference_is_a_pattern_of_itself(text: str) -> None:
    try:
        parse_reference(text)
    except InvalidReference:
        return
    assert parse_pattern(text).matches(text)


parts = st.text("ab-", min_size=1, max_size=4).filter(lambda part: part == part.strip("-"))
starred = st.one_of(parts, st.just("*"), st.builds("{}*{}".format, parts, parts))


@given(st.lists(starred, min_size=1, max_size=3), st.lists(parts, min_size=1, max_size=4))
def test_a_star_stays_within_its_part_but_for_the_last(
    pattern: list[str], repository: list[str]
) -> None:
    """Compared with a regular expression."""
    *first, last = pattern
    expected = "/".join(re.escape(part).replace(r"\*", "[^/]*") for part in (*first, last))
    if last == "*":
        expected = "".join(re.escape(part).replace(r"\*", "[^/]*") + "/" for part in first) + ".+"
    found = parse_pattern("registry.example/" + "/".join(pattern))
    image = "registry.example/" + "/".join(repository)
    assert found.matches(image) is bool(re.fullmatch(expected, "/".join(repository)))


@pytest.mark.parametrize("unit", ["a", "a.", "a-", "a__b", "a/", "*/", ":", "@", "a:", "[", "\x00"])
def test_a_long_text_is_read_or_refused(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    with pytest.raises(InvalidPattern):
        parse_pattern(text)
    assert not parse_pattern("registry.example/team/*").matches(text)
    assert not parse_pattern("registry.example/team/*").matches("registry.example/team/" + text)


@pytest.mark.parametrize(
    ("pattern", "image"),
    [
        ("registry.example/team/*", "registry.example:443/team/app"),
        ("registry.example/team/*", "Registry.example:0443/team/app"),
        ("registry.example:443/team/*", "registry.example/team/app"),
        ("REGISTRY.example/team/*", "registry.example/team/app"),
        ("docker.io/library/*", "registry-1.docker.io/library/nginx"),
        ("nginx", "index.docker.io:443/library/nginx@" + DIGEST),
        ("nginx", "DOCKER.IO/library/nginx"),
    ],
)
def test_other_names_of_a_registry_are_for_what_is_forbidden(pattern: str, image: str) -> None:
    assert parse_pattern(pattern).matches(image, spelt=False)
    assert not parse_pattern(pattern).matches(image)


def test_what_is_foreign_is_so_however_it_is_spelt() -> None:
    same = {"registry.example:443/team/app", "Registry.example/team/app"}
    for pattern, image in FOREIGN:
        if image not in same:
            assert not parse_pattern(pattern).matches(image, spelt=False)
