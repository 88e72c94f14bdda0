"""WWW-Authenticate as registries send it, in one field or several."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.images.challenge import Challenge, read_challenges

HUB = 'Bearer realm="https://auth.example/token",service="registry.example",scope="a:b:pull,push"'
READ = Challenge(
    "bearer",
    {
        "realm": "https://auth.example/token",
        "service": "registry.example",
        "scope": "a:b:pull,push",
    },
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([HUB], [READ]),
        ([HUB.replace('",', '" , ')], [READ]),
        ([HUB.replace("Bearer", "bEARER").replace("realm", "REALM")], [READ]),
        (["Basic realm=registry"], [Challenge("basic", {"realm": "registry"})]),
        (["Basic"], [Challenge("basic")]),
        ([f'Basic realm="a", {HUB}'], [Challenge("basic", {"realm": "a"}), READ]),
        ([HUB, 'Basic realm="a"'], [READ, Challenge("basic", {"realm": "a"})]),
        (
            [r'Basic realm="a \"quoted\" \\ word"'],
            [Challenge("basic", {"realm": r'a "quoted" \ word'})],
        ),
        (["Basic realm=a, realm=b"], [Challenge("basic", {"realm": "a"})]),
        (
            ["Negotiate, Basic realm=a"],
            [Challenge("negotiate"), Challenge("basic", {"realm": "a"})],
        ),
        ([""], []),
        (['="'], []),
        ([], []),
    ],
)
def test_every_challenge_is_read(headers: list[str], expected: list[Challenge]) -> None:
    assert read_challenges(headers) == expected


@given(st.lists(st.text(max_size=200), max_size=3))
def test_no_header_raises(headers: list[str]) -> None:
    read_challenges(headers)


def test_a_header_takes_no_longer_than_its_length() -> None:
    read_challenges(['Bearer realm="' + '\\"' * 100_000])
    read_challenges(["a " * 100_000])
