"""The cluster's own profiles: which one counts, and what becomes of wrong ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.profiles import Profiles
from batten_webhooks.image_facts import Profile
from batten_webhooks.reference import parse_reference
from batten_webhooks.resources import Invalid, read_profile

HEAD = {"apiVersion": "batten.dev/v1alpha1", "kind": "ImageProfile"}


class Api(Cluster):
    """An API server's list, or its failure."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Object | ApiError = {"items": []}

    async def get(self, path: str) -> Object:
        assert path == "/apis/batten.dev/v1alpha1/imageprofiles"
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer


def profile(name: str, *images: str, user: int = 10001, **spec: Any) -> Object:
    """As an item of a list, which does not repeat its kind."""
    spec = {"images": list(images), "runAsUser": user, "runAsGroup": 7, **spec}
    return {"metadata": {"name": name}, "spec": spec}


def test_the_first_by_name_counts_and_ours_come_last() -> None:
    async def main() -> None:
        api = Api()
        profiles = Profiles(api)
        nginx, own = parse_reference("nginx:1.27"), parse_reference("registry.example/shop/web:1")

        def users() -> list[int]:
            return [found.user if (found := profiles.of(each)) else 0 for each in (nginx, own)]

        assert users() == [101, 0]
        everything = profile("b", "registry.example/*", "docker.io/library/*", user=2)
        wrong = profile("0", "registry.example/*", user=0)
        api.answer = {"items": [everything, profile("a", "registry.example/shop/*"), wrong]}
        await profiles.look()
        assert users() == [2, 10001]
        api.answer = ApiError("away")
        with pytest.raises(ApiError):
            await profiles.look()
        assert users() == [2, 10001]
        api.answer = {"items": []}
        await profiles.look()
        assert users() == [101, 0]

    asyncio.run(main())


def test_it_says_what_ours_say() -> None:
    said = profile(
        "db",
        "registry.example/db",
        writablePaths=["/run"],
        dataPaths=["/data"],
        ports=["5432/tcp"],
        environment={"PLAIN": "1"},
    )
    assert read_profile({**HEAD, **said}).profile == Profile(
        name="db",
        user=10001,
        group=7,
        writable=("/run",),
        data=("/data",),
        ports=("5432/tcp",),
        environment={"PLAIN": "1"},
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"images": []}, "spec.images"),
        ({"images": ["registry.example/app:1"]}, "spec.images[0]"),
        ({"images": ["*"]}, "spec.images[0]"),
        ({"runAsUser": 0}, "spec.runAsUser"),
        ({"runAsUser": 2**31}, "spec.runAsUser"),
        ({"runAsGroup": 0}, "spec.runAsGroup"),
        ({"writablePaths": ["relative"]}, "spec.writablePaths[0]"),
        ({"writablePaths": ["/"]}, "spec.writablePaths[0]"),
        ({"writablePaths": ["/a/../b"]}, "spec.writablePaths[0]"),
        ({"writablePaths": ["/proc/sys"]}, "spec.writablePaths[0]"),
        ({"writablePath": ["/a"]}, "spec.writablePath"),
        ({"dataPaths": ["/dev/sda"]}, "spec.dataPaths[0]"),
        ({"ports": ["80"]}, "spec.ports[0]"),
        ({"ports": ["0/tcp"]}, "spec.ports[0]"),
        ({"ports": ["65536/udp"]}, "spec.ports[0]"),
        ({"environment": {"NO NAME": "1"}}, "spec.environment"),
        ({"environment": {"NUMBER": 1}}, "spec.environment.NUMBER"),
    ],
)
def test_a_wrong_one_is_told_with_its_field(spec: Any, field: str) -> None:
    value = profile("a", "registry.example/app")
    with pytest.raises(Invalid) as caught:
        read_profile({**HEAD, **value, "spec": {**value["spec"], **spec}})
    assert [path for path, _ in caught.value.errors] == [field]
