"""Digests beside tags, and away again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.images.pins import pinned, unpinned
from batten_webhooks.reference import InvalidReference, parse_reference

ONE, OTHER = (f"sha256:{digit * 64}" for digit in "12")
PART = st.from_regex(r"[a-z0-9]{1,5}([._-][a-z0-9]{1,5})?", fullmatch=True)
REFERENCES = st.builds(
    lambda registry, repository, tag: f"{registry}{repository}{tag}",
    st.sampled_from(("", "docker.io/", "registry.example/", "localhost:5000/", "[::1]:5000/")),
    st.lists(PART, min_size=1, max_size=3).map("/".join),
    st.just("") | PART.map(":{}".format),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", f"nginx@{ONE}"),
        ("nginx:1.27", f"nginx:1.27@{ONE}"),
        (f"nginx:1.27@{OTHER}", f"nginx:1.27@{ONE}"),
        (f"nginx@{OTHER}", f"nginx@{ONE}"),
        ("registry.example:5000/team/app:1", f"registry.example:5000/team/app:1@{ONE}"),
    ],
)
def test_a_digest_stands_behind_what_was_written(text: str, expected: str) -> None:
    assert pinned(text, ONE) == expected


@pytest.mark.parametrize("text", ["", "Nginx", "nginx:", "nginx@sha256:1", "a b"])
def test_what_names_no_image_is_not_pinned(text: str) -> None:
    with pytest.raises(InvalidReference):
        pinned(text, ONE)
    with pytest.raises(InvalidReference):
        unpinned(text)


def test_without_a_tag_the_digest_stays() -> None:
    assert unpinned(f"nginx@{ONE}") == f"nginx@{ONE}"


@given(REFERENCES)
def test_a_pin_changes_the_digest_alone_and_comes_off_again(text: str) -> None:
    before, after = parse_reference(text), parse_reference(pinned(text, ONE))
    assert (after.name, after.tag, after.digest) == (before.name, before.tag, ONE)
    assert pinned(pinned(text, OTHER), ONE) == pinned(text, ONE)
    if before.tag:
        assert unpinned(pinned(text, ONE)) == text
