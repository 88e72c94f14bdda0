"""Which pull secrets are tried for an image, as the kubelet's own tests have it and beyond."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.images.keyring import Credential, InvalidSecret, Keyring, read_secret
from batten_webhooks.reference import parse_reference

NEW, OLD = "kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"


def users(keys: list[str], image: str) -> list[str]:
    """The keys that are tried for the image, in their order."""
    keyring = Keyring((key, Credential(key, "x")) for key in keys)
    return [each.username for each in keyring.candidates(parse_reference(image))]


# Rows are of TestDockerKeyringForGlob, TestKeyringMiss and TestKeyringHitWith… of Kubernetes.
@pytest.mark.parametrize(
    ("key", "image", "matches"),
    [
        ("hello.registry.example", "hello.registry.example/app", True),
        ("*.registry.example", "hello.registry.example/app", True),
        ("*.registry.example", "registry.example/app", False),
        ("*.*.example", "hello.registry.example/app", True),
        ("hello.*.example", "hello.registry.example/app", True),
        ("prefix*.example", "prefixed.example/app", True),
        ("prefix?.example", "prefixed.example/app", False),
        ("pre[a-g]ix.example", "prefix.example/app", False),
        ("*.example", "a.registry.example/app", False),
        ("registry.example:5000", "registry.example:5000/app", True),
        ("registry.example:5000", "registry.example/app", False),
        ("registry.example", "registry.example:5000/app", False),
        ("*.example:5000", "registry.example:5000/app", True),
        ("registry.example/team", "registry.example/team/app", True),
        ("registry.example/team", "registry.example/other/app", False),
        ("registry.example/te", "registry.example/team/app", True),
        ("*.example/team", "registry.example/team/app", True),
        ("https://registry.example", "registry.example/app", True),
        ("http://registry.example/v1/", "registry.example/app", True),
        ("https://registry.example/v2/team", "registry.example/team/app", True),
        ("registry.example.evil.example", "registry.example/app", False),
        ("evil.example/registry.example", "registry.example/app", False),
        ("https://index.docker.io/v1/", "nginx:1.27", True),
        ("index.docker.io", "team/app", True),
        ("docker.io", "nginx", True),
        ("docker.io/team", "nginx", False),
        ("https://index.docker.io/v1/", "registry.example/nginx", False),
        ("localhost:5000", "localhost:5000/app", True),
        ("http://[", "registry.example/app", False),
        ("", "registry.example/app", False),
    ],
)
def test_a_key_is_matched_as_the_kubelet_does(key: str, image: str, matches: bool) -> None:
    assert bool(users([key], image)) == matches


def test_the_most_specific_is_tried_first_and_each_once() -> None:
    keys = ["registry.example", "*.example", "registry.example/team", "registry.example/team/app"]
    assert users(keys, "registry.example/team/app") == [
        "registry.example/team/app",
        "registry.example/team",
        "registry.example",
        "*.example",
    ]
    same = Credential("a", "b")
    keyring = Keyring([("registry.example", same), ("*.example", same)])
    assert keyring.candidates(parse_reference("registry.example/app")) == [same]


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "a", "password": "b"}, Credential("a", "b")),
        ({"auth": auth("a:b:c")}, Credential("a", "b:c")),
        ({"auth": auth("a:b").rstrip("=")}, Credential("a", "b")),
        ({"username": "x", "password": "y", "auth": auth("a:b")}, Credential("a", "b")),
        ({"auth": auth("a:b\x00\x00")}, Credential("a", "b")),
        ({"auth": auth("00:"), "identitytoken": "t"}, Credential("00", "", "t")),
        ({"username": 5, "password": None}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("kind", [NEW, OLD])
def test_both_forms_of_a_secret_are_read(kind: str, entry: Any, expected: Any) -> None:
    auths = {"registry.example": entry}
    data = {
        ".dockerconfigjson": json.dumps({"auths": auths, "credsStore": "x"}).encode(),
        ".dockercfg": json.dumps(auths).encode(),
    }
    found = read_secret(kind, data)
    assert found == ([("registry.example", expected)] if expected else [])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Opaque", "{}"),
        (NEW, ""),
        (NEW, "[]"),
        (NEW, '{"auths": {"a": 5}}'),
        (NEW, '{"auths": {"a": {"auth": "s3cret%"}}}'),
        (NEW, '{"auths": {"a": {"auth": "czNjcmV0"}}}'),
    ],
)
def test_a_secret_that_is_none_is_told_without_what_is_in_it(kind: str, text: str) -> None:
    with pytest.raises(InvalidSecret) as caught:
        read_secret(kind, {".dockerconfigjson": text.encode()})
    assert "s3cret" not in str(caught.value)
    assert "czNj" not in str(caught.value)


def test_credentials_never_stand_in_logs() -> None:
    credential = Credential("robot", "hunter2", "token3")
    assert "hunter2" not in repr(credential)
    assert "token3" not in repr(credential)


def test_keyrings_that_would_try_the_same_are_one() -> None:
    image = parse_reference("registry.example/team/app")
    mine = ("registry.example", Credential("a", "b"))
    other = ("other.example", Credential("c", "d"))
    assert Keyring([mine]).identity(image) == Keyring([other, mine]).identity(image)
    assert Keyring([mine]).identity(image) != Keyring().identity(image) == ""
    changed = ("registry.example", Credential("a", "b2"))
    assert Keyring([mine]).identity(image) != Keyring([changed]).identity(image)
    # Parts that run into each other are not the same credential.
    assert Credential("a", "bc").identity != Credential("ab", "c").identity


@given(st.dictionaries(st.text(max_size=30), st.just({"username": "a", "password": "b"})))
def test_no_key_raises(auths: dict[str, Any]) -> None:
    data = {".dockercfg": json.dumps(auths).encode()}
    Keyring(read_secret(OLD, data)).candidates(parse_reference("registry.example/app"))
