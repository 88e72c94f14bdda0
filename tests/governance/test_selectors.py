"""Selectors and patterns of images: what they match, and above all what they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.image_pattern import InvalidPattern, parse_pattern
from batten_webhooks.reference import InvalidReference, parse_reference
from batten_webhooks.selectors import Operator, Requirement, Selector, selector

DIGEST = "sha256:" + "0" * 64

# What metav1.LabelSelector says of a label that is there, is another, is empty, and is absent.
TABLE: list[tuple[Operator, tuple[str, ...], tuple[bool, bool, bool, bool]]] = [
    ("In", ("gold",), (True, False, False, False)),
    ("In", ("gold", ""), (True, False, True, False)),
    ("NotIn", ("gold",), (False, True, True, True)),
    ("NotIn", ("gold", ""), (False, True, False, True)),
    ("Exists", (), (True, True, True, False)),
    ("DoesNotExist", (), (False, False, False, True)),
]


@pytest.mark.parametrize(("operator", "values", "expected"), TABLE)
def test_one_requirement(
    operator: Operator, values: tuple[str, ...], expected: tuple[bool, ...]
) -> None:
    requirement = Requirement("tier", operator, frozenset(values))
    labels = ({"tier": "gold"}, {"tier": "lead"}, {"tier": ""}, {"other": "gold"})
    assert tuple(requirement.matches(each) for each in labels) == expected


def test_all_requirements_together_and_none_at_all() -> None:
    both = selector({"a": "1"}, (Requirement("b", "Exists"),))
    assert both.matches({"a": "1", "b": ""})
    assert not both.matches({"a": "1"})
    assert not both.matches({"b": "1"})
    assert Selector().matches({})
    assert selector({"b": "2", "a": "1"}) == selector({"a": "1", "b": "2"})


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
