"""Image references: what distribution/reference accepts is accepted, with the same parts."""

from __future__ import annotations

import string

import pytest
from batten_growth import growth
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.reference import InvalidReference, Reference, parse_reference

SHA256 = "sha256:" + "a1" * 32
SHA512 = "sha512:" + "b2" * 64

GOOD = {
    "nginx": Reference("docker.io", "library/nginx"),
    "nginx:1.27": Reference("docker.io", "library/nginx", "1.27"),
    "docker.io/nginx:1.27": Reference("docker.io", "library/nginx", "1.27"),
    "index.docker.io/library/nginx": Reference("docker.io", "library/nginx"),
    "grafana/loki:3": Reference("docker.io", "grafana/loki", "3"),
    "registry.example/app": Reference("registry.example", "app"),
    "registry.example:5000/team/app:1.4": Reference("registry.example:5000", "team/app", "1.4"),
    "registry:5000/app": Reference("registry:5000", "app"),
    "localhost/app": Reference("localhost", "app"),
    "localhost:5000/app": Reference("localhost:5000", "app"),
    "Registry/app": Reference("Registry", "app"),
    "10.0.0.1/app:1": Reference("10.0.0.1", "app", "1"),
    "[2001:db8::1]:5000/app": Reference("[2001:db8::1]:5000", "app"),
    f"nginx@{SHA256}": Reference("docker.io", "library/nginx", "", SHA256),
    f"nginx:latest@{SHA256}": Reference("docker.io", "library/nginx", "latest", SHA256),
    f"registry.example/a/b/c:_x.Y-1@{SHA512}": Reference(
        "registry.example", "a/b/c", "_x.Y-1", SHA512
    ),
    "a__b/c--d/e.f": Reference("docker.io", "a__b/c--d/e.f"),
    "registry.example/" + "x" * 255: Reference("registry.example", "x" * 255),
    "nginx:" + "t" * 128: Reference("docker.io", "library/nginx", "t" * 128),
}

BAD = [
    "",
    " ",
    " nginx",
    "nginx ",
    "nginx\n",
    "ng inx:1",
    "nginx:",
    "nginx@",
    "nginx:-x",
    "nginx:" + "t" * 129,
    "nginx:1:2",
    "nginx@sha256:abc",
    "nginx@" + SHA256.upper(),
    "nginx@sha256:" + "A1" * 32,
    "nginx@md5:" + "a" * 32,
    "nginx@" + SHA256 + "\n",
    "Nginx",
    "registry.example/Team/app",
    "registry.example/",
    "registry.example//app",
    "registry.example./app",
    "registry.example:/app",
    "registry.example:http/app",
    "my_registry.example/app",
    "-registry.example/app",
    "/nginx",
    "https://registry.example/app",
    "a___b",
    "a..b",
    "nginx-",
    "..",
    "rëgistry.example/app",
    "nginx:\uff11",
    "a1" * 32,
    "registry.example/" + "x" * 256,
]


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    assert parse_reference(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(InvalidReference, match=r"^(is|has) "):
        parse_reference(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("nginx :1", "whitespace"),
        ("Nginx", "capitals"),
        ("nginx@sha256:abc", "sha256"),
        ("a1" * 32, "image ID"),
        ("registry.example/" + "x" * 256, "255"),
        ("nginx:", r"repository\[:tag\]"),
    ],
)
def test_the_reason_is_told(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference, match=reason):
        parse_reference(text)


def test_name_is_without_tag_and_digest() -> None:
    assert parse_reference(f"nginx:1@{SHA256}").name == "docker.io/library/nginx"


@given(st.text(alphabet=string.ascii_letters + string.digits + "./:-_@[] ä", max_size=60))
def test_total_and_stable(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize("form", ["{}!", "{}-", "{}./x!", "{}/!"])
def test_time_grows_with_the_length_and_no_faster(form: str) -> None:
    part, end = form.removeprefix("{}")[:-1], form[-1]

    def refuse(length: int) -> None:
        with pytest.raises(InvalidReference):
            parse_reference(f"a{part}" * length + end)

    assert growth(refuse, 20_000, 200_000) < 40
