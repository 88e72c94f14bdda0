"""Attestations of real cosign 2 and 3 on real registries, with the referrers API and without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from batten_cosign import (
    KINDS,
    VULNERABILITIES,
    Major,
    Pair,
    attest,
    key_pair,
    vulnerabilities,
    why_no_cosign,
)
from batten_dsse import BUNDLE, ENVELOPE, Signer, bundle, envelope, statement
from batten_registry import PASSWORD, USER, Pushed, Registry, referring_registry, registry

from batten_webhooks.evidence.attestations import cache as cache_module
from batten_webhooks.evidence.attestations.attached import attached
from batten_webhooks.evidence.attestations.cache import FRESH_SECONDS, SOON_SECONDS, Attestations
from batten_webhooks.evidence.attestations.model import Attached, Found, Trust
from batten_webhooks.evidence.attestations.verify import check
from batten_webhooks.evidence.model import MOST_BYTES
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Credential, Keyring
from batten_webhooks.images.registry import Registries
from batten_webhooks.images.transport import RegistrySettings
from batten_webhooks.reference import Reference, parse_reference

T = TypeVar("T")
NOBODY = Keyring()
FOUND_SECONDS = 60.0


@pytest.fixture(scope="module")
def without_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("distribution")) as found:
        yield found


@pytest.fixture(scope="module")
def with_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with referring_registry(tmp_path_factory.mktemp("referrers")) as found:
        yield found


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """One of each kind, and `other` of P-256."""
    if why_no_cosign():
        pytest.skip(why_no_cosign())
    made: dict[str, Pair] = {}

    def pair(name: str) -> Pair:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = key_pair(folder, "p256" if name == "other" else name)
        return made[name]

    return pair


@pytest.fixture(scope="module", params=["with_api", "without_api"])
def store(request: pytest.FixtureRequest) -> Registry:
    found: Registry = request.getfixturevalue(request.param)
    return found


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Asked:
    """A cache in front of a registry, with a clock that is moved by hand."""

    registry: Registry
    attestations: Attestations
    clock: Clock = field(default_factory=Clock)

    async def find(
        self, repository: str, digests: tuple[str, ...], *keys: str, **options: Any
    ) -> Found:
        trust = Trust(keys)
        where = image(self.registry, repository)
        keyring = options.pop("keyring", NOBODY)
        return await self.attestations.find(
            where, digests, keyring, trust, FOUND_SECONDS, **options
        )


def play(store: Registry, main: Callable[[Asked], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        clock = Clock()
        async with Registries(RegistrySettings(plain_http=frozenset((store.host,)))) as registries:
            attestations = Attestations(registries, clock)
            try:
                return await main(Asked(store, attestations, clock))
            finally:
                await attestations.close()

    return asyncio.run(run())


def find(store: Registry, repository: str, digests: tuple[str, ...], *keys: str) -> Found:
    return play(store, lambda asked: asked.find(repository, digests, *keys))


def beside(store: Registry, repository: str, *digests: str) -> Attached:
    async def run() -> Attached:
        async with Registries(RegistrySettings(plain_http=frozenset((store.host,)))) as registries:
            return await attached(registries, image(store, repository), digests, NOBODY)

    return asyncio.run(run())


def image(store: Registry, repository: str) -> Reference:
    return parse_reference(f"{store.host}/{repository}")


def pushed(store: Registry, repository: str) -> Pushed:
    return store.push(repository, "1", platforms=("amd64", "arm64"), User=repository)


def at(store: Registry, repository: str, digest: str) -> str:
    return f"{store.host}/{repository}@{digest}"


def results(found: Found) -> list[Any]:
    return [each.predicate["scanner"]["result"] for each in found.verified]


def reasons(found: Found) -> list[str]:
    return [each.reason for each in found.rejected]


# --- what cosign signs ----------------------------------------------------------------------------


@pytest.mark.parametrize("major", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_key(
    store: Registry, pairs: Callable[[str], Pair], kind: str, major: Major
) -> None:
    repository = f"kinds/{kind}-{major}"
    digest = pushed(store, repository).digest
    attest(major, pairs(kind), at(store, repository, digest), vulnerabilities(scan=kind))

    found = find(store, repository, (digest,), pairs("other").public, pairs(kind).public)

    (verified,) = found.verified
    assert verified.kind == VULNERABILITIES
    assert verified.subjects == {digest}
    assert verified.predicate["scanner"]["result"] == {"scan": kind}
    assert (found.rejected, found.told) == ((), ())


@pytest.mark.parametrize("major", [2, 3])
def test_another_key(store: Registry, pairs: Callable[[str], Pair], major: Major) -> None:
    repository = f"another-key/{major}"
    digest = pushed(store, repository).digest
    attest(major, pairs("other"), at(store, repository, digest), vulnerabilities())

    found = find(store, repository, (digest,), *(pairs(each).public for each in KINDS))

    assert (found.verified, reasons(found)) == ((), ["forged"])
    assert "is not signed with any of the 5 trusted keys" in str(found.rejected[0])


@pytest.mark.parametrize("major", [2, 3])
def test_an_old_scan_tells_its_age(
    store: Registry, pairs: Callable[[str], Pair], major: Major
) -> None:
    repository = f"old/{major}"
    digest = pushed(store, repository).digest
    old = vulnerabilities("2019-01-02T03:04:05Z")
    attest(major, pairs("p256"), at(store, repository, digest), old)

    (verified,) = find(store, repository, (digest,), pairs("p256").public).verified

    assert verified.predicate["metadata"]["scanFinishedOn"] == "2019-01-02T03:04:05Z"


@pytest.mark.parametrize("major", [2, 3])
def test_of_a_platform(store: Registry, pairs: Callable[[str], Pair], major: Major) -> None:
    repository = f"platform/{major}"
    image_of = pushed(store, repository)
    amd64 = image_of.platforms["amd64"]
    attest(major, pairs("p256"), at(store, repository, amd64), vulnerabilities(of="amd64"))

    found = find(store, repository, (image_of.digest, amd64), pairs("p256").public)
    other = (image_of.digest, image_of.platforms["arm64"])

    assert results(found) == [{"of": "amd64"}]
    assert find(store, repository, other, pairs("p256").public) == Found(())


def test_sources_that_disagree(store: Registry, pairs: Callable[[str], Pair]) -> None:
    """cosign 2 and 3 store in different places; neither hides what the other one says."""
    repository = "disagree"
    digest = pushed(store, repository).digest
    attest(2, pairs("p256"), at(store, repository, digest), vulnerabilities(says="clean"))
    attest(3, pairs("rsa"), at(store, repository, digest), vulnerabilities(says="broken"))

    keys = (pairs("p256").public, pairs("rsa").public)
    both = find(store, repository, (digest,), *keys)
    one = find(store, repository, (digest,), pairs("rsa").public)

    assert {each["says"] for each in results(both)} == {"clean", "broken"}
    assert (results(one), reasons(one)) == ([{"says": "broken"}], ["forged"])


@pytest.mark.parametrize("major", [2, 3])
def test_moved_beside_another_image(
    store: Registry, pairs: Callable[[str], Pair], major: Major
) -> None:
    """Whoever may push can copy an attestation; it goes on to be about the first image."""
    first, second = f"moved/{major}-first", f"moved/{major}-second"
    of, victim = pushed(store, first).digest, pushed(store, second).digest
    attest(major, pairs("p256"), at(store, first, of), vulnerabilities())
    (candidate,) = beside(store, first, of).candidates
    if major == 2:
        tag = f"{victim.replace(':', '-')}.att"
        store.attach(second, [(ENVELOPE, candidate.data)], tag=tag)
    else:
        refer(store, second, victim, [(BUNDLE, candidate.data)])

    found = find(store, second, (victim,), pairs("p256").public)

    assert (found.verified, reasons(found)) == ((), ["foreign"])
    assert str(found.rejected[0]).endswith("is about another image")


def test_a_registry_with_a_password(tmp_path: Path, pairs: Callable[[str], Pair]) -> None:
    with registry(tmp_path / "htpasswd", "htpasswd") as guarded:
        digest = pushed(guarded, "secret").digest
        pair = pairs("p256")
        signer = Signer.fresh()
        refer(guarded, "secret", digest, [(BUNDLE, bundle(signer.sign(statement(digest))))])
        keyring = Keyring([(guarded.host, Credential(USER, PASSWORD))])

        async def main(asked: Asked) -> Found:
            with pytest.raises(RegistryError, match="401: check the pull secret"):
                await asked.find("secret", (digest,), signer.public, pair.public)
            return await asked.find(
                "secret", (digest,), signer.public, pair.public, keyring=keyring
            )

        assert len(play(guarded, main).verified) == 1


# --- what else may be beside an image -------------------------------------------------------------


def refer(
    store: Registry, repository: str, subject: str, blobs: list[tuple[str, bytes]], **said: Any
) -> str:
    """Attached as cosign 3 does it: in the fallback tag where the registry keeps no list itself."""
    digest = store.attach(repository, blobs, subject=subject, **said)
    tag(store, repository, subject, digest)
    return digest


def tag(store: Registry, repository: str, subject: str, *digests: str, **said: Any) -> None:
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifests = [{"mediaType": kind, "digest": each, "size": 1, **said} for each in digests]
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }
    data = json.dumps(index).encode()
    store.put(repository, subject.replace(":", "-"), data, index["mediaType"])  # type: ignore[arg-type]


def test_nothing(store: Registry) -> None:
    digest = pushed(store, "nothing").digest
    assert find(store, "nothing", (digest,), Signer.fresh().public) == Found(())


def test_unsigned(store: Registry) -> None:
    digest = pushed(store, "unsigned").digest
    refer(store, "unsigned", digest, [(ENVELOPE, envelope(statement(digest)))])

    found = find(store, "unsigned", (digest,), Signer.fresh().public)

    assert (found.verified, reasons(found)) == ((), ["unsigned"])


@pytest.mark.parametrize("said", ["application/vnd.example+json", "", "text/html"])
def test_a_wrong_artifact_type(store: Registry, said: str) -> None:
    """Of the list and of the manifest; what counts is the layer's own type."""
    digest, signer = pushed(store, "wrong-type").digest, Signer.fresh()
    blob = (ENVELOPE, signer.sign(statement(digest)))
    referrer = store.attach("wrong-type", [blob], subject=digest, artifactType=said)
    tag(store, "wrong-type", digest, referrer, artifactType=said)

    assert len(find(store, "wrong-type", (digest,), signer.public).verified) == 1


def test_no_attestation_at_all(store: Registry) -> None:
    """A signature or an SBOM is passed over, and not fetched."""
    digest = pushed(store, "sbom").digest
    refer(store, "sbom", digest, [("application/spdx+json", b"{}")])

    found = beside(store, "sbom", digest)

    assert (found.candidates, found.told) == ((), ())


def test_a_subject_that_lies(without_api: Registry) -> None:
    """A list may name what is about another image, or about none."""
    digest, signer = pushed(without_api, "liar").digest, Signer.fresh()
    blob = (ENVELOPE, signer.sign(statement(digest)))
    other = without_api.attach("liar", [blob], subject=f"sha256:{'1' * 64}")
    none = without_api.attach("liar", [blob])
    tag(without_api, "liar", digest, other, none)

    found = beside(without_api, "liar", digest)

    assert found.candidates == ()
    assert [each.partition("… ")[2] for each in found.told] == [
        f"is listed for {digest[:19]}… and is not about it"
    ] * 2


# --- how much is read -----------------------------------------------------------------------------


def test_fifty_of_ten_megabytes(without_api: Registry) -> None:
    """Four are read, the newest ones; that there are more is told."""
    digest, signer = pushed(without_api, "huge").digest, Signer.fresh()
    blobs = []
    for number in range(50):
        data = signer.sign(statement(digest, {"number": number}))
        blobs.append((ENVELOPE, data + b" " * (MOST_BYTES - len(data))))
    without_api.attach("huge", blobs, tag=f"{digest.replace(':', '-')}.att")

    found = find(without_api, "huge", (digest,), signer.public)

    assert [each.predicate["number"] for each in found.verified] == [49, 48, 47, 46]
    assert found.told == (
        "46 more attestations are not read: at most 50 of one image, of 41943040 bytes together",
    )


def test_one_that_is_too_big_hides_no_other(without_api: Registry) -> None:
    digest, signer = pushed(without_api, "too-big").digest, Signer.fresh()
    big = signer.sign(statement(digest, "x" * MOST_BYTES))
    small = signer.sign(statement(digest, "small"))
    refer(without_api, "too-big", digest, [(ENVELOPE, big), (ENVELOPE, small)])

    found = find(without_api, "too-big", (digest,), signer.public)

    assert [each.predicate for each in found.verified] == ["small"]
    (told,) = found.told
    assert told.endswith(f"is of {len(big)} bytes: none, or more than 10485760, are not read")


def test_many_hide_none_in_another_place(without_api: Registry) -> None:
    """Sixty layers under one tag, and one artifact in the list."""
    digest, signer = pushed(without_api, "many").digest, Signer.fresh()
    many = [(ENVELOPE, signer.sign(statement(digest, number))) for number in range(60)]
    without_api.attach("many", many, tag=f"{digest.replace(':', '-')}.att")
    refer(without_api, "many", digest, [(BUNDLE, bundle(signer.sign(statement(digest, "one"))))])

    found = find(without_api, "many", (digest,), signer.public)

    assert len(found.verified) == 50
    assert found.verified[0].predicate == "one"
    assert found.told[0].startswith("11 more attestations are not read")


def test_the_newest_are_read(store: Registry) -> None:
    """Of a scan a day, by what manifests say of when they were made."""
    digest, signer = pushed(store, "daily").digest, Signer.fresh()
    made = []
    for day in range(60):
        said = {"org.opencontainers.image.created": f"2026-01-01T00:00:{day:02}Z"}
        blob = (ENVELOPE, signer.sign(statement(digest, day)))
        made.append(store.attach("daily", [blob], subject=digest, annotations=said))
    tag(store, "daily", digest, *made)

    found = find(store, "daily", (digest,), signer.public)

    assert {each.predicate for each in found.verified} == set(range(10, 60))
    assert found.told[0].startswith("10 more attestations are not read")


# --- what is kept ---------------------------------------------------------------------------------


def test_a_warm_answer_costs_no_request_and_no_signature(
    store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, signer = pushed(store, "warm").digest, Signer.fresh()
    refer(store, "warm", digest, [(BUNDLE, bundle(signer.sign(statement(digest))))])
    checked: list[str] = []

    def counted(candidate: Any, *rest: Any) -> Any:
        checked.append(candidate.digest)
        return check(candidate, *rest)

    monkeypatch.setattr(cache_module, "check", counted)

    async def main(asked: Asked) -> None:
        trust, where = Trust((signer.public,)), image(store, "warm")
        assert asked.attestations.known(where, (digest,), NOBODY, trust) is None
        first = await asked.find("warm", (digest,), signer.public)
        requests, signatures = len(store.log.read_text()), len(checked)
        for _ in range(100):
            asked.clock.seconds += 1
            again = await asked.find("warm", (digest,), signer.public)
            assert again.verified[0] is first.verified[0]
        known = asked.attestations.known(where, (digest,), NOBODY, trust)
        assert isinstance(known, Found)
        assert (len(store.log.read_text()), len(checked), signatures) == (requests, 1, 1)

    play(store, main)


def test_many_at_once_ask_once(without_api: Registry) -> None:
    digest, signer = pushed(without_api, "once").digest, Signer.fresh()
    refer(without_api, "once", digest, [(ENVELOPE, signer.sign(statement(digest)))])

    async def main(asked: Asked) -> int:
        before = without_api.asked("GET", "/blobs/")
        calls = [asked.find("once", (digest,), signer.public) for _ in range(100)]
        assert all(len(each.verified) == 1 for each in await asyncio.gather(*calls))
        return without_api.asked("GET", "/blobs/") - before

    assert play(without_api, main) == 1


def test_another_trust_asks_nobody_and_is_checked(without_api: Registry) -> None:
    digest, signer = pushed(without_api, "trust").digest, Signer.fresh()
    refer(without_api, "trust", digest, [(ENVELOPE, signer.sign(statement(digest)))])

    async def main(asked: Asked) -> None:
        assert (await asked.find("trust", (digest,), signer.public)).verified
        requests = len(without_api.log.read_text())
        assert reasons(await asked.find("trust", (digest,), Signer.fresh().public)) == ["forged"]
        assert len(without_api.log.read_text()) == requests

    play(without_api, main)


def test_what_is_old_is_given_and_read_again(without_api: Registry) -> None:
    digest, signer = pushed(without_api, "stale").digest, Signer.fresh()
    blobs = [(ENVELOPE, signer.sign(statement(digest, "first")))]
    name = f"{digest.replace(':', '-')}.att"
    without_api.attach("stale", blobs, tag=name)

    async def main(asked: Asked) -> None:
        async def told() -> list[Any]:
            found = await asked.find("stale", (digest,), signer.public)
            return [each.predicate for each in found.verified]

        assert await told() == ["first"]
        blobs.append((ENVELOPE, signer.sign(statement(digest, "second"))))
        without_api.attach("stale", blobs, tag=name)
        assert await told() == ["first"]
        asked.clock.seconds += FRESH_SECONDS
        assert await told() == ["first"]
        await settled(asked)
        assert await told() == ["second", "first"]

    play(without_api, main)


def test_what_was_missing_is_there_soon(without_api: Registry) -> None:
    digest, signer = pushed(without_api, "soon").digest, Signer.fresh()

    async def main(asked: Asked) -> None:
        assert not (await asked.find("soon", (digest,), signer.public)).verified
        refer(without_api, "soon", digest, [(ENVELOPE, signer.sign(statement(digest)))])
        assert not (await asked.find("soon", (digest,), signer.public)).verified
        asked.clock.seconds += SOON_SECONDS
        assert (await asked.find("soon", (digest,), signer.public)).verified

    play(without_api, main)


def test_what_was_read_too_long_ago_is_read_again_first(without_api: Registry) -> None:
    """Before an image is refused for an attestation that may have been made since."""
    digest, signer = pushed(without_api, "age").digest, Signer.fresh()
    name = f"{digest.replace(':', '-')}.att"
    without_api.attach("age", [(ENVELOPE, signer.sign(statement(digest, "old")))], tag=name)

    async def main(asked: Asked) -> None:
        await asked.find("age", (digest,), signer.public)
        without_api.attach("age", [(ENVELOPE, signer.sign(statement(digest, "new")))], tag=name)
        asked.clock.seconds += 20
        still = await asked.find("age", (digest,), signer.public, age=30)
        again = await asked.find("age", (digest,), signer.public, age=10)
        assert [still.verified[0].predicate, again.verified[0].predicate] == ["old", "new"]

    play(without_api, main)


def test_a_registry_that_is_gone(tmp_path: Path) -> None:
    """What is known goes on to count; what is not known fails for a second."""
    with registry(tmp_path / "gone") as store:
        digest, signer = pushed(store, "gone").digest, Signer.fresh()
        refer(store, "gone", digest, [(ENVELOPE, signer.sign(statement(digest)))])

        async def main(asked: Asked) -> None:
            assert (await asked.find("gone", (digest,), signer.public)).verified
            store.process.kill()
            store.process.wait()
            for _ in range(5):
                asked.clock.seconds += FRESH_SECONDS
                assert (await asked.find("gone", (digest,), signer.public)).verified
                await settled(asked)
            with pytest.raises(RegistryError, match="cannot be reached"):
                await asked.find("other", (digest,), signer.public)
            where, trust = image(store, "other"), Trust((signer.public,))
            known = asked.attestations.known(where, (digest,), NOBODY, trust)
            assert isinstance(known, RegistryError)
            asked.clock.seconds += 1
            assert asked.attestations.known(where, (digest,), NOBODY, trust) is None

        play(store, main)


def test_memory_is_bounded(without_api: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """By bytes: of ten images with a megabyte each, the last three are kept."""
    monkeypatch.setattr(cache_module, "MOST_READ_BYTES", 3 * 2**20)
    monkeypatch.setattr(cache_module, "MOST_CHECKED_BYTES", 3 * 2**20)
    signer, digests = Signer.fresh(), []
    for number in range(10):
        repository = f"bounded/{number}"
        digest = pushed(without_api, repository).digest
        data = signer.sign(statement(digest))
        blob = (ENVELOPE, data + b" " * (2**20 - len(data)))
        refer(without_api, repository, digest, [blob])
        digests.append(digest)

    async def main(asked: Asked) -> list[bool]:
        for number, digest in enumerate(digests):
            await asked.find(f"bounded/{number}", (digest,), signer.public)
        trust = Trust((signer.public,))
        return [
            asked.attestations.known(
                image(without_api, f"bounded/{number}"), (digest,), NOBODY, trust
            )
            is not None
            for number, digest in enumerate(digests)
        ]

    assert play(without_api, main) == [False] * 7 + [True] * 3


async def settled(asked: Asked) -> None:
    """Until nothing is being read in the background."""
    while running := list(asked.attestations._reading._running.values()):
        await asyncio.wait(running)
