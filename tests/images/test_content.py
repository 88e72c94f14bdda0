"""Manifests and configurations as builders write them, and as nobody should."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.images.content import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MEDIA_TYPES,
    MOST_LISTED,
    MOST_MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    check_digest,
    checked_digest,
    read_configuration,
    read_manifest,
)
from batten_webhooks.images.errors import RegistryError

DIGEST = f"sha256:{'0' * 64}"


def child(os: str | None, architecture: str = "amd64", **fields: Any) -> dict[str, Any]:
    platform = {"os": os, "architecture": architecture, **fields} if os else None
    return {"digest": DIGEST, "size": 1, "platform": platform}


def index(*children: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": children}).encode()


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST])
def test_an_index_leaves_out_what_runs_nowhere(kind: str) -> None:
    data = index(
        child("linux"),
        child("linux", "arm", variant="v7"),
        child("windows", **{"os.version": "10.0.20348.1"}),
        child("unknown", "unknown"),
        child(None),
    )
    found = read_manifest(data, kind)
    assert isinstance(found, Index)
    assert [str(each.platform) for each in found.images] == [
        "linux/amd64",
        "linux/arm/v7",
        "windows/amd64",
        "None",
    ]


@pytest.mark.parametrize("kind", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_a_manifest_knows_what_a_node_pulls(kind: str) -> None:
    layers = [{"digest": DIGEST, "size": 10}, {"digest": DIGEST, "size": 32}]
    data = json.dumps(
        {"mediaType": kind, "config": {"digest": DIGEST, "size": 5}, "layers": layers}
    )
    found = read_manifest(data.encode(), kind)
    assert isinstance(found, Manifest)
    assert found.size == 47
    assert read_manifest(b'{"config": {"size": 5}, "layers": null}', kind) == Manifest(
        config=type(found.config)(size=5)
    )


@pytest.mark.parametrize(
    ("data", "kind", "told"),
    [
        (index(*[child("linux")] * (MOST_MANIFESTS + 1)), OCI_INDEX, "more than 100 manifests"),
        (b'{"mediaType": "text/html"}', OCI_MANIFEST, "calls itself text/html"),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+json", "not an image"),
        (b"{}", "", "calls its manifest nothing"),
        (b"{}", OCI_MANIFEST, "sent no manifest"),
        (b"[]", OCI_INDEX, "sent no manifest"),
        (b'{"manifests": null}', OCI_INDEX, "sent no index"),
        (b'{"manifests": [5]}', OCI_INDEX, "sent no index"),
        (b"\xff", OCI_INDEX, "sent no manifest"),
        (b"[" * 100_000, OCI_INDEX, "sent no manifest"),
        (b'{"config": {"size": 1%s}}' % (b"0" * 400), OCI_MANIFEST, "sent no manifest"),
        (b'{"config": {"size": -1}}', OCI_MANIFEST, "sent no manifest"),
    ],
)
def test_what_is_no_manifest_is_told(data: bytes, kind: str, told: str) -> None:
    with pytest.raises(RegistryError, match=told) as caught:
        read_manifest(data, kind)
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize("absent", ["{}", '{"config": null}', '{"config": {}}'])
def test_a_configuration_may_say_nothing(absent: str) -> None:
    found = read_configuration(absent.encode())
    assert (found.execution.user, found.execution.volumes) == ("", None)


def test_a_configuration_as_docker_writes_it() -> None:
    config: dict[str, Any] = {
        "Hostname": "",
        "User": "1000:0",
        "ExposedPorts": {"80/tcp": {}},
        "Env": ["PATH=/bin"],
        "Entrypoint": ["/run"],
        "Cmd": None,
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
        "Labels": None,
        "OnBuild": None,
        "Healthcheck": {"Test": ["CMD", "/ok"], "Interval": 30_000_000_000},
    }
    value = {"os": "linux", "architecture": "arm64", "variant": "v8", "config": config}
    found = read_configuration(json.dumps(value).encode())
    assert str(found.platform) == "linux/arm64/v8"
    assert found.execution.healthcheck is not None
    assert found.execution.healthcheck.interval == 30_000_000_000
    assert found.execution.entrypoint == ["/run"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_bytes_have_their_digest(algorithm: str) -> None:
    digest = f"{algorithm}:{hashlib.new(algorithm, b'a').hexdigest()}"
    check_digest(b"a", digest)
    with pytest.raises(RegistryError, match=f"is not {algorithm}:"):
        check_digest(b"b", digest)


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", "sha256:" + "0" * 63, "SHA256:" + "0" * 64, "sha256:" + "A" * 64],
)
def test_what_is_no_digest_is_told(text: str) -> None:
    with pytest.raises(RegistryError, match="is no digest"):
        checked_digest(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ("config", "manifests", "platform", "digest", "User", "layers", "size")
            ),
            inner,
        )
    ),
)


@given(JSON | st.binary(max_size=50), st.sampled_from(MEDIA_TYPES))
def test_nothing_but_registry_errors(value: Any, kind: str) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    for read in (lambda: read_manifest(data, kind), lambda: read_configuration(data)):
        try:
            str(read())
        except RegistryError as error:
            assert str(error).isprintable()  # noqa: PT017


def test_of_what_a_configuration_lists_without_end_the_first_is_kept() -> None:
    many: dict[str, Any] = {f"/{n}": {} for n in range(5000)}
    config = {
        "User": "1000",
        "ExposedPorts": many,
        "Volumes": many,
        "Labels": dict.fromkeys(many, ""),
        "Entrypoint": list(many),
        "Cmd": ["serve"],
        "Healthcheck": {"Test": list(many), "Interval": 5},
    }
    found = read_configuration(json.dumps({"os": "linux", "config": config}).encode())
    said = found.execution
    assert (found.os, said.user, said.cmd) == ("linux", "1000", ["serve"])
    assert said.healthcheck is not None
    assert said.healthcheck.interval == 5
    for listed in (said.exposed_ports, said.volumes, said.labels):
        assert list(listed or ()) == list(many)[:MOST_LISTED]
    for texts in (said.entrypoint, said.healthcheck.test):
        assert texts == list(many)[:MOST_LISTED]
