"""The client against a real registry: plain, with a password, with tokens, with TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batten_registry import (
    IDENTITY_TOKEN,
    OCI_MANIFEST,
    PASSWORD,
    USER,
    Registry,
    docker_config,
    registry,
)

from batten_webhooks.images.content import Index, Manifest
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Credential, Keyring, read_secret
from batten_webhooks.images.registry import Registries
from batten_webhooks.images.transport import RegistrySettings
from batten_webhooks.reference import Reference, parse_reference

NOBODY = Keyring()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("plain")) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("htpasswd"), "htpasswd", tls=True) as found:
        yield found


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("token"), "token") as found:
        yield found


def settings(found: Registry) -> RegistrySettings:
    if found.ca is not None:
        listed = frozenset((found.host,))
        return RegistrySettings(listed=listed, certificates={found.host: found.ca})
    hosts = {found.host, *([found.tokens.host] if found.tokens else ())}
    return RegistrySettings(plain_http=frozenset(hosts))


def secret(found: Registry, **entry: str) -> Keyring:
    data = {".dockerconfigjson": docker_config(found.host, **entry)}
    return Keyring(read_secret("kubernetes.io/dockerconfigjson", data))


def image(found: Registry, name: str) -> Reference:
    return parse_reference(f"{found.host}/{name}")


def play(found: Registry, asked: Any, given: RegistrySettings | None = None) -> Any:
    async def main() -> Any:
        async with Registries(given or settings(found)) as registries:
            return await asked(registries)

    return asyncio.run(main())


def resolve(found: Registry, name: str, keyring: Keyring = NOBODY) -> str:
    digest: str = play(found, lambda each: each.resolve(image(found, name), keyring))
    return digest


def failure(found: Registry, name: str, keyring: Keyring = NOBODY) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        resolve(found, name, keyring)
    return caught.value


def test_a_tag_is_its_indexs_digest_by_one_head(plain: Registry) -> None:
    pushed = plain.push("team/app", "1.4", platforms=("amd64", "arm64"))
    heads, gets = plain.asked("HEAD"), plain.asked("GET")
    assert resolve(plain, "team/app:1.4") == pushed.digest
    assert (plain.asked("HEAD"), plain.asked("GET")) == (heads + 1, gets)


def test_no_tag_is_latest(plain: Registry) -> None:
    pushed = plain.push("team/untagged", "latest")
    assert resolve(plain, "team/untagged") == pushed.digest


def test_an_index_a_manifest_and_a_configuration_are_read(plain: Registry) -> None:
    pushed = plain.push("team/whole", "1", platforms=("amd64", "arm64"), User="1000", Labels=None)
    reference = image(plain, "team/whole")

    async def read(registries: Registries) -> tuple[Index, Manifest, Any]:
        index = await registries.manifest(reference, pushed.digest, NOBODY)
        manifest = await registries.manifest(reference, pushed.platforms["arm64"], NOBODY)
        assert isinstance(index, Index)
        assert isinstance(manifest, Manifest)
        told = await registries.configuration(reference, manifest.config.digest, NOBODY)
        return index, manifest, told

    index, manifest, told = play(plain, read)
    assert [str(each.platform) for each in index.images] == ["linux/amd64", "linux/arm64"]
    assert manifest.size == manifest.config.size + len("layer of arm64")
    assert (told.architecture, told.execution.user) == ("arm64", "1000")


def test_what_is_not_there_is_told(plain: Registry) -> None:
    plain.push("team/app", "1.4")
    for name in ("team/app:2", "team/none:1"):
        error = failure(plain, name)
        assert (error.reason, str(error)) == (
            "not-found",
            "there is no such tag, or not for these credentials",
        )


def test_a_manifest_without_an_index_has_its_own_digest(plain: Registry) -> None:
    pushed = plain.push("team/single", "index")
    data = plain.manifest("team/single", pushed.platforms["amd64"])
    digest = plain.put("team/single", "1", data, OCI_MANIFEST)
    assert resolve(plain, "team/single:1") == digest == pushed.platforms["amd64"]


def test_a_password_is_given_where_it_is_asked_for(guarded: Registry) -> None:
    pushed = guarded.push("team/app", "1.4")
    assert resolve(guarded, "team/app:1.4", secret(guarded)) == pushed.digest


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"username": USER, "password": "wrong"},
        {"username": "a:b", "password": "ü"},
    ],
)
def test_nobody_else_is_let_in(guarded: Registry, entries: dict[str, str]) -> None:
    guarded.push("team/app", "1.4")
    error = failure(guarded, "team/app:1.4", secret(guarded, **entries) if entries else NOBODY)
    assert error.reason == "unauthorized"
    assert "check the pull secret" in str(error)
    assert "wrong" not in str(error)


def test_each_secret_is_tried(guarded: Registry) -> None:
    pushed = guarded.push("team/app", "1.4")
    entries = [
        (guarded.host, Credential("robot", "old")),
        (f"{guarded.host}/team", Credential("other", "x")),
        (guarded.host, Credential(USER, PASSWORD)),
    ]
    assert resolve(guarded, "team/app:1.4", Keyring(entries)) == pushed.digest


def test_without_its_authority_a_registry_is_not_believed(guarded: Registry) -> None:
    guarded.push("team/app", "1.4")
    only_listed = RegistrySettings(listed=frozenset((guarded.host,)))
    with pytest.raises(RegistryError) as caught:
        play(
            guarded,
            lambda each: each.resolve(image(guarded, "team/app:1.4"), secret(guarded)),
            only_listed,
        )
    assert caught.value.reason == "unavailable"
    assert "has a certificate that is not trusted: unable to get local issuer" in str(caught.value)


def test_a_token_is_fetched_once_for_an_image(tokens: Registry) -> None:
    assert tokens.tokens is not None
    pushed = tokens.push("team/app", "1.4")
    tokens.tokens.asked.clear()

    async def thrice(registries: Registries) -> list[str]:
        reference, keyring = image(tokens, "team/app:1.4"), secret(tokens)
        return [await registries.resolve(reference, keyring) for _ in range(3)]

    assert play(tokens, thrice) == [pushed.digest] * 3
    assert tokens.tokens.asked == ["repository:team/app:pull"]


def test_tokens_of_different_credentials_are_kept_apart(tokens: Registry) -> None:
    tokens.push("team/app", "1.4")

    async def both(registries: Registries) -> None:
        reference = image(tokens, "team/app:1.4")
        await registries.resolve(reference, secret(tokens))
        with pytest.raises(RegistryError, match="lets anybody not pull"):
            await registries.resolve(reference, NOBODY)
        with pytest.raises(RegistryError, match="lets user 'robot' not pull"):
            await registries.resolve(reference, secret(tokens, username=USER, password="no"))  # noqa: S106

    play(tokens, both)


def test_anybody_gets_a_token_for_what_is_public(tokens: Registry) -> None:
    pushed = tokens.push("public/app", "1.4")
    assert resolve(tokens, "public/app:1.4") == pushed.digest


def test_an_identity_token_is_exchanged(tokens: Registry) -> None:
    pushed = tokens.push("team/app", "1.4")
    keyring = secret(tokens, identitytoken=IDENTITY_TOKEN)
    assert resolve(tokens, "team/app:1.4", keyring) == pushed.digest


def test_a_token_that_is_refused_is_fetched_again_once(tokens: Registry) -> None:
    """The token server says that it lasts five minutes, and the registry has another opinion."""
    assert tokens.tokens is not None
    pushed = tokens.push("team/app", "1.4")

    async def twice(registries: Registries) -> str:
        assert tokens.tokens is not None
        reference, keyring = image(tokens, "team/app:1.4"), secret(tokens)
        tokens.tokens.lifetime = -100
        with pytest.raises(RegistryError, match="answers 401"):
            await registries.resolve(reference, keyring)
        tokens.tokens.asked.clear()
        tokens.tokens.lifetime = 300
        return await registries.resolve(reference, keyring)

    assert play(tokens, twice) == pushed.digest
    assert len(tokens.tokens.asked) == 1


def test_a_mirror_is_asked_first_and_the_registry_where_it_has_nothing(
    plain: Registry, tmp_path: Path
) -> None:
    name = "mirrored.example"
    with registry(tmp_path) as own:
        reference = Reference(own.host, "team/mirrored", "1.4")
        pushed = own.push("team/mirrored", "1.4", User="7")
        given = RegistrySettings(
            plain_http=frozenset((own.host, plain.host)), mirrors={own.host: (name, plain.host)}
        )
        assert play(own, lambda each: each.resolve(reference, NOBODY), given) == pushed.digest
        mirrored = plain.push("team/mirrored", "1.4", User="8")
        assert play(own, lambda each: each.resolve(reference, NOBODY), given) == mirrored.digest


def test_a_local_registry_is_asked_only_where_it_is_listed(plain: Registry) -> None:
    plain.push("team/app", "1.4")
    for host in (plain.host, plain.host.replace("127.0.0.1", "localhost")):
        reference = parse_reference(f"{host}/team/app:1.4")
        with pytest.raises(RegistryError) as caught:
            play(plain, lambda each, what=reference: each.resolve(what, NOBODY), RegistrySettings())
        assert caught.value.reason == "refused"
        assert "loopback" in str(caught.value)
