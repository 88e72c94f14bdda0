"""What is asked for once, for how long it is believed, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from batten_webhooks.images import cache
from batten_webhooks.images.cache import AT_ONCE, FRESH_SECONDS, STALE_TIMES, Images
from batten_webhooks.images.content import Configuration, Descriptor, Index, Manifest, Platform
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Credential, Keyring
from batten_webhooks.reference import Reference, parse_reference

APP = parse_reference("registry.example/team/app:1")
NOBODY = Keyring()


@dataclass
class Scripted:
    """Stands for the registries: what the next answers are, and how often they were asked."""

    answers: list[str | RegistryError] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    seconds: float = 0.0

    async def resolve(self, reference: Reference, _: Keyring) -> str:
        self.asked.append(str(reference))
        await asyncio.sleep(self.seconds)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, RegistryError):
            raise answer
        return answer

    async def manifest(self, _: Reference, digest: str, __: Keyring) -> Index | Manifest:
        self.asked.append(digest)
        if digest == "index":
            platforms = (Platform("linux", "amd64"), Platform("unknown", "unknown"))
            return Index([Descriptor(f"child {p}", platform=p) for p in platforms])
        if digest == "nested":
            return Index([Descriptor("index")])
        return Manifest(Descriptor("config", 10), [Descriptor("layer", 90)])

    async def configuration(self, _: Reference, digest: str, __: Keyring) -> Configuration:
        self.asked.append(digest)
        return Configuration("linux", "amd64")


@dataclass
class Clock:
    now: float = 1000.0


def play(scenario: Callable[[Images, Scripted, Clock], Awaitable[None]]) -> None:
    async def main() -> None:
        scripted, clock = Scripted(), Clock()
        images = Images(scripted, lambda: clock.now)  # type: ignore[arg-type]
        try:
            await scenario(images, scripted, clock)
        finally:
            await images.close()

    asyncio.run(main())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_ten_thousand_who_ask_at_once_ask_once() -> None:
    async def scenario(images: Images, registries: Scripted, _: Any) -> None:
        registries.answers, registries.seconds = ["sha256:a"], 0.01
        asked = [images.digest(APP, NOBODY, 5) for _ in range(10_000)]
        assert set(await asyncio.gather(*asked)) == {"sha256:a"}
        assert len(registries.asked) == 1

    play(scenario)


def test_a_reference_with_a_digest_asks_nobody() -> None:
    async def scenario(images: Images, registries: Scripted, _: Any) -> None:
        digest = f"sha256:{'1' * 64}"
        pinned = parse_reference(f"registry.example/team/app:1@{digest}")
        assert await images.digest(pinned, NOBODY, 5) == digest
        assert registries.asked == []

    play(scenario)


def test_credentials_that_differ_share_nothing() -> None:
    async def scenario(images: Images, registries: Scripted, _: Any) -> None:
        registries.answers = ["sha256:a", RegistryError("unauthorized", "no")]
        mine = Keyring([("registry.example", Credential("a", "b"))])
        elsewhere = ("other.example", Credential("c", "d"))
        assert await images.digest(APP, mine, 5) == "sha256:a"
        with pytest.raises(RegistryError, match="no"):
            await images.digest(APP, NOBODY, 5)
        again = Keyring([elsewhere, ("registry.example", Credential("a", "b"))])
        assert await images.digest(APP, again, 5) == "sha256:a"
        assert len(registries.asked) == 2

    play(scenario)


def test_a_digest_that_ages_is_given_while_it_is_asked_for_again() -> None:
    async def scenario(images: Images, registries: Scripted, clock: Any) -> None:
        registries.answers = ["sha256:a", "sha256:b"]
        assert await images.digest(APP, NOBODY, 5) == "sha256:a"
        clock.now += FRESH_SECONDS - 1
        assert await images.digest(APP, NOBODY, 5) == "sha256:a"
        assert len(registries.asked) == 1
        clock.now += 2
        assert await images.digest(APP, NOBODY, 5) == "sha256:a"
        await settle()
        assert await images.digest(APP, NOBODY, 5) == "sha256:b"
        assert len(registries.asked) == 2

    play(scenario)


def test_an_old_digest_is_believed_while_the_registry_is_away_and_no_longer() -> None:
    async def scenario(images: Images, registries: Scripted, clock: Any) -> None:
        registries.answers = ["sha256:a", RegistryError("unavailable", "away")]
        assert await images.digest(APP, NOBODY, 5) == "sha256:a"
        clock.now += FRESH_SECONDS + 1
        for _ in range(3):
            assert await images.digest(APP, NOBODY, 5) == "sha256:a"
            await settle()
        assert len(registries.asked) == 2  # not by everybody who comes meanwhile
        clock.now += 2
        assert await images.digest(APP, NOBODY, 5) == "sha256:a"
        await settle()
        assert len(registries.asked) == 3
        clock.now += FRESH_SECONDS * STALE_TIMES
        with pytest.raises(RegistryError, match="away"):
            await images.digest(APP, NOBODY, 5)

    play(scenario)


@pytest.mark.parametrize("reason", ["not-found", "unauthorized", "refused"])
def test_a_tag_that_is_gone_is_gone(reason: Any) -> None:
    async def scenario(images: Images, registries: Scripted, clock: Any) -> None:
        registries.answers = ["sha256:a", RegistryError(reason, "gone")]
        await images.digest(APP, NOBODY, 5)
        clock.now += FRESH_SECONDS + 1
        assert await images.digest(APP, NOBODY, 5) == "sha256:a"
        await settle()
        with pytest.raises(RegistryError, match="gone"):
            await images.digest(APP, NOBODY, 5)
        assert len(registries.asked) == 2

    play(scenario)


def test_a_failure_is_remembered_for_seconds_only() -> None:
    async def scenario(images: Images, registries: Scripted, clock: Any) -> None:
        registries.answers = [RegistryError("not-found", "none"), "sha256:a"]
        for _ in range(3):
            with pytest.raises(RegistryError, match="none"):
                await images.digest(APP, NOBODY, 5)
        assert len(registries.asked) == 1
        clock.now += 5
        assert await images.digest(APP, NOBODY, 5) == "sha256:a"

    play(scenario)


def test_who_waits_too_long_leaves_and_the_answer_still_comes() -> None:
    async def scenario(images: Images, registries: Scripted, _: Any) -> None:
        registries.answers, registries.seconds = ["sha256:a"], 0.1
        with pytest.raises(RegistryError) as caught:
            await images.digest(APP, NOBODY, 0.01)
        assert caught.value.reason == "timeout"
        await asyncio.sleep(0.15)
        assert await images.digest(APP, NOBODY, 0.01) == "sha256:a"
        assert len(registries.asked) == 1

    play(scenario)


def test_digests_and_contents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_DIGESTS", 3)
    monkeypatch.setattr(cache, "MOST_CONTENTS", 3)

    async def scenario(images: Images, registries: Scripted, _: Any) -> None:
        registries.answers = ["sha256:a"]
        for number in range(10):
            reference = Reference("registry.example", "team/app", str(number))
            await images.digest(reference, NOBODY, 5)
            await images.platforms(APP, str(number), NOBODY, 5)
        registries.asked.clear()
        await images.digest(Reference("registry.example", "team/app", "9"), NOBODY, 5)
        await images.platforms(APP, "9", NOBODY, 5)
        assert registries.asked == []
        await images.digest(Reference("registry.example", "team/app", "0"), NOBODY, 5)
        await images.platforms(APP, "0", NOBODY, 5)
        assert registries.asked == ["registry.example/team/app:0", "0", "config"]

    play(scenario)


def test_contents_are_read_once_for_all_platforms() -> None:
    async def scenario(images: Images, registries: Scripted, _: Any) -> None:
        asked = [images.platforms(APP, "index", NOBODY, 5) for _ in range(50)]
        found = await asyncio.gather(*asked)
        ((only,),) = set(found)
        assert (str(only.platform), only.size) == ("linux/amd64", 100)
        assert registries.asked == ["index", "child linux/amd64", "config"]
        with pytest.raises(RegistryError, match="another index"):
            await images.platforms(APP, "nested", NOBODY, 5)

    play(scenario)


def other(number: int) -> Reference:
    return parse_reference(f"registry{number}.example/app:1")


def test_one_namespace_keeps_no_other_from_its_registries() -> None:
    async def scenario(images: Images, registries: Scripted, _: Any) -> None:
        registries.answers, registries.seconds = ["sha256:a"], 3600.0
        hostile = [images.digest(other(n), NOBODY, 0.05, "hostile") for n in range(500)]
        slow = await asyncio.gather(*hostile, return_exceptions=True)
        assert all(isinstance(each, RegistryError) for each in slow)
        assert len(registries.asked) == AT_ONCE
        registries.seconds = 0.0
        # What the hostile one was about to ask for, too: nobody waits in its line.
        for each in (APP, other(400)):
            assert await images.digest(each, NOBODY, 5, "shop") == "sha256:a"

    play(scenario)


def test_whose_turn_comes_late_takes_what_is_known_by_then() -> None:
    async def scenario(images: Images, registries: Scripted, _: Any) -> None:
        registries.answers, registries.seconds = ["sha256:a"], 0.01
        asked = [images.digest(other(n), NOBODY, 5, "shop") for n in [*range(AT_ONCE + 1)] * 20]
        assert set(await asyncio.gather(*asked)) == {"sha256:a"}
        assert len(registries.asked) == AT_ONCE + 1
        assert not images._resolving._turns

    play(scenario)


@pytest.mark.parametrize(
    ("architectures", "read"), [({"amd64"}, 4), ({"s390x"}, 4), (set(), 9)], ids=str
)
def test_an_index_of_many_platforms_costs_no_more_than_some(
    architectures: set[str], read: int
) -> None:
    class Many(Scripted):
        async def manifest(self, _: Reference, digest: str, __: Keyring) -> Index | Manifest:
            if digest != "index":
                return await super().manifest(_, digest, __)
            platform = Platform("linux", "amd64")
            return Index([Descriptor(f"child {n}", platform=platform) for n in range(9)])

    async def main() -> None:
        images = Images(Many(), architectures=frozenset(architectures))  # type: ignore[arg-type]
        assert len(await images.platforms(APP, "index", NOBODY, 5)) == read
        await images.close()

    asyncio.run(main())
