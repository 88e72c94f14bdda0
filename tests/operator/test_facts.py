"""What is known of images: asked once, within its time, and of the API server no more than needed.

A small server stands for an API server that hangs or forbids, and scripted registries for those
that do: with real ones it is shown in tests/pinning.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.facts import MOST_ENTRIES, MOST_PULL_SECRETS, ImageFacts
from batten_webhooks.governance import Governed
from batten_webhooks.images.cache import Images
from batten_webhooks.images.content import Configuration, Execution, PlatformImage
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Keyring
from batten_webhooks.inquiry import MOST_ASKED, Inquiry, inquire
from batten_webhooks.policy import PRESETS, Policy, observing
from batten_webhooks.reference import Reference
from batten_webhooks.revision import PREFIX
from batten_webhooks.rules.rule import Missing
from batten_webhooks.workload import read_object

IMAGE = "registry.example/team/app:1"
DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
UID = "7f48afda-0000-4000-8000-000000000000"


class Api(Cluster):
    """Answers by path; what it does not have is not found."""

    def __init__(self, answers: dict[str, Object | ApiError | float]) -> None:
        super().__init__()
        self.answers = answers
        self.asked: list[str] = []

    async def get(self, path: str) -> Object:
        self.asked.append(path)
        answer = self.answers.get(path, ApiError("not found", 404))
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            raise ApiError("late")
        if isinstance(answer, ApiError):
            raise answer
        return answer


class Scripted(Images):
    """Resolves every tag to DIGEST, or fails so; counts how often it is asked."""

    def __init__(self, failure: RegistryError | None = None) -> None:
        self.failure = failure
        self.keyrings: list[Keyring] = []
        self.known = False

    async def digest(
        self, reference: Reference, keyring: Keyring, seconds: float, namespace: str = ""
    ) -> str:
        self.keyrings.append(keyring)
        if not seconds:
            raise RegistryError("timeout", "there was no time to ask")
        if self.failure:
            raise self.failure
        self.known = True
        return DIGEST

    def known_digest(self, reference: Reference, keyring: Keyring) -> str | RegistryError | None:
        return DIGEST if self.known else None

    async def platforms(
        self,
        reference: Reference,
        digest: str,
        keyring: Keyring,
        seconds: float,
        namespace: str = "",
    ) -> tuple[PlatformImage, ...]:
        return self.known_platforms(reference, digest, keyring)

    def known_platforms(
        self, reference: Reference, digest: str, keyring: Keyring
    ) -> tuple[PlatformImage, ...]:
        found = Configuration("linux", "amd64", config=Execution(user="1000"))
        return (PlatformImage(found.platform, digest, 1, found),)


def asked_of(
    kind: str = "Pod",
    owner: dict[str, Any] | None = None,
    policy: Policy = PRESETS["hardened"],
    **spec: Any,
) -> Inquiry:
    """What a policy wants to know of a Pod, or of a Deployment."""
    pod = {"spec": {"containers": [{"name": "app", "image": IMAGE}], **spec}}
    metadata: dict[str, Any] = {"name": "web"}
    if owner:
        metadata |= {"ownerReferences": [{"controller": True, "uid": UID, **owner}]}
        metadata |= {"labels": {"controller-revision-hash": "web-5d"}}
    value: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, **pod}
    if kind == "Deployment":
        value = {"apiVersion": "apps/v1", "kind": kind, "spec": {"template": pod}}
    workload = read_object(value)
    assert workload is not None
    inquiry = inquire(workload, "shop", Governed(policy))
    assert inquiry is not None
    return inquiry


def revision(kind: str, digest: str = OTHER, **metadata: Any) -> Object:
    annotations = {f"{PREFIX}revision": json.dumps({IMAGE: digest})} if digest else {}
    template = {"spec": {"containers": [{"name": "app", "image": IMAGE}]}}
    spec = {"template": template}
    found = {"metadata": {"name": "web", "annotations": annotations, **metadata}}
    return found | ({"data": {"spec": spec}} if kind == "ControllerRevision" else {"spec": spec})


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 10))


REPLICA_SET = "/apis/apps/v1/namespaces/shop/replicasets/web-5d"
OWNED = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d"}


@pytest.mark.parametrize(
    ("owner", "path", "kind"),
    [
        (OWNED, REPLICA_SET, "ReplicaSet"),
        (
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"},
            "/apis/apps/v1/namespaces/shop/controllerrevisions/web-5d",
            "ControllerRevision",
        ),
        (
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web"},
            "/apis/apps/v1/namespaces/shop/controllerrevisions/web-web-5d",
            "ControllerRevision",
        ),
        (
            {"apiVersion": "batch/v1", "kind": "Job", "name": "web-5d"},
            "/apis/batch/v1/namespaces/shop/jobs/web-5d",
            "Job",
        ),
    ],
)
def test_a_revision_is_read_once(owner: dict[str, Any], path: str, kind: str) -> None:
    async def scenario() -> None:
        owned = {"ownerReferences": [{"controller": True, "uid": UID}]}
        own = owned if kind == "ControllerRevision" else {"uid": UID}
        api, images = Api({path: revision(kind, **own)}), Scripted()
        facts = ImageFacts(api, images)
        inquiry = asked_of(owner=owner)
        assert facts.known(inquiry) is None
        assert (await facts.gather(inquiry, 1)).digests == {IMAGE: OTHER}
        known = facts.known(inquiry)
        assert known is not None
        assert known.digests == {IMAGE: OTHER}
        assert known.images[IMAGE].user == "1000"
        assert api.asked == [path]
        assert images.keyrings == []

    play(scenario)


@pytest.mark.parametrize("owner", [{}, {**OWNED, "kind": "Gizmo", "apiVersion": "example.com/v1"}])
def test_a_pod_of_nobody_known_is_asked_for_by_itself(owner: dict[str, Any]) -> None:
    async def scenario() -> None:
        api = Api({})
        found = await ImageFacts(api, Scripted()).gather(asked_of(owner=owner), 1)
        assert found.digests == {IMAGE: DIGEST}
        assert api.asked == []

    play(scenario)


def test_an_image_that_the_template_names_later_has_the_revisions_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        before = revision("ReplicaSet", uid=UID)
        before["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/team/old:1"
        api = Api({REPLICA_SET: before})
        facts = ImageFacts(api, Scripted())
        await facts.gather(asked_of(owner=OWNED), 1)
        api.answers[REPLICA_SET] = revision("ReplicaSet", uid=UID)
        monkeypatch.setattr("batten_operator.facts.UNPINNED_SECONDS", 0.0)
        assert facts.known(asked_of(owner=OWNED)) is None
        assert (await facts.gather(asked_of(owner=OWNED), 1)).digests == {IMAGE: OTHER}

    play(scenario)


def test_who_claims_an_owner_that_is_another_gets_nothing_from_it() -> None:
    async def scenario() -> None:
        api = Api({REPLICA_SET: revision("ReplicaSet", uid="another")})
        found = await ImageFacts(api, Scripted()).gather(asked_of(owner=OWNED), 1)
        assert found.digests == {IMAGE: DIGEST}

    play(scenario)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (revision("ReplicaSet", digest="", uid=UID), "has no digest for it yet, see its events"),
        (revision("ReplicaSet", digest="sha256:0", uid=UID), "has no digest for it yet"),
        (ApiError("forbidden", 403), "it cannot be read"),
        (30.0, "the API server does not answer"),
    ],
)
def test_no_registry_is_asked_in_a_revisions_place(
    answer: Object | ApiError | float, why: str
) -> None:
    async def scenario() -> None:
        images = Scripted()
        facts = ImageFacts(Api({REPLICA_SET: answer}), images)
        missing = (await facts.gather(asked_of(owner=OWNED), 0.2)).digests[IMAGE]
        assert isinstance(missing, Missing)
        assert 'ReplicaSet "web-5d"' in missing.why
        assert why in missing.why
        assert images.keyrings == []

    play(scenario)


ACCOUNT = "/api/v1/namespaces/shop/serviceaccounts/default"
SECRET = "/api/v1/namespaces/shop/secrets/regcred"  # noqa: S105 - a path


def secret(text: str) -> Object:
    data = {".dockerconfigjson": base64.b64encode(text.encode()).decode()}
    return {"type": "kubernetes.io/dockerconfigjson", "data": data}


GOOD = secret('{"auths": {"registry.example": {"username": "robot", "password": "x"}}}')


def test_pull_secrets_are_the_pods_or_its_service_accounts() -> None:
    async def scenario() -> None:
        api = Api({ACCOUNT: {"imagePullSecrets": [{"name": "regcred"}]}, SECRET: GOOD})
        facts = ImageFacts(api, images := Scripted())
        reference = Reference("registry.example", "team/app", "1")
        named: dict[str, Any] = {"imagePullSecrets": [{"name": "regcred"}]}
        for inquiry in (asked_of("Deployment"), asked_of(**named), asked_of("Deployment", **named)):
            await facts.gather(inquiry, 1)
            (credential,) = images.keyrings[-1].candidates(reference)
            assert credential.username == "robot"
        assert api.asked == [ACCOUNT, SECRET]
        await facts.gather(asked_of(), 1)
        assert images.keyrings[-1].candidates(reference) == []
        silent = ImageFacts(api, images, pull_secrets=False)
        await silent.gather(asked_of(**named), 1)
        assert images.keyrings[-1].candidates(reference) == []
        assert len(api.asked) == 2

    play(scenario)


@pytest.mark.parametrize(
    "found",
    [
        ApiError("forbidden", 403),
        secret("no JSON"),
        {"type": "Opaque", "data": {}},
        {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "%"}},
        30.0,
    ],
)
def test_a_secret_that_is_of_no_use_is_passed_over(found: Object | ApiError | float) -> None:
    async def scenario() -> None:
        facts = ImageFacts(Api({SECRET: found}), Scripted())
        inquiry = asked_of(imagePullSecrets=[{"name": "regcred"}])
        assert (await facts.gather(inquiry, 0.2)).digests == {IMAGE: DIGEST}

    play(scenario)


def test_what_went_wrong_is_told_and_counted() -> None:
    async def scenario() -> None:
        counted: list[str] = []
        images = Scripted(RegistryError("rate-limited", "it is asked too often"))
        facts = ImageFacts(Api({}), images, count=counted.append)
        found = await facts.gather(asked_of(), 1)
        assert found.digests == {IMAGE: Missing("it is asked too often")}
        assert found.images == {}
        images.failure = None
        await facts.gather(asked_of(), 1)
        assert counted == ["rate-limited", "resolved"]

    play(scenario)


def far(count: int) -> str:
    return "/".join([".."] * count)


@pytest.mark.parametrize("name", ["..", ".", far(4), "web-5d\n", "Web", "w" * 1_000_000, "a b"])
def test_what_no_object_is_called_is_asked_of_nobody_and_remembered_by_nobody(name: str) -> None:
    async def scenario() -> None:
        api = Api({})
        facts = ImageFacts(api, Scripted())
        secrets = [{"name": name}]
        for inquiry in (
            asked_of(owner={**OWNED, "name": name}, imagePullSecrets=secrets),
            asked_of(owner={**OWNED, "kind": "DaemonSet", "name": name}),
            asked_of("Deployment", serviceAccountName=name),
        ):
            assert (await facts.gather(inquiry, 1)).digests == {IMAGE: DIGEST}
        api.answers[REPLICA_SET] = revision("ReplicaSet", uid="u" * 1_000_000)
        await facts.gather(asked_of(owner={**OWNED, "uid": "u" * 1_000_000}), 1)
        assert api.asked == []

    play(scenario)


def test_one_pod_has_no_thousand_secrets_read() -> None:
    async def scenario() -> None:
        names = [{"name": f"s{n}"} for n in range(1000)]
        api = Api({ACCOUNT: {"imagePullSecrets": names}})
        facts = ImageFacts(api, Scripted())
        await facts.gather(asked_of(imagePullSecrets=names), 1)
        assert len(api.asked) == MOST_PULL_SECRETS
        await facts.gather(asked_of("Deployment"), 1)
        assert len(api.asked) == MOST_PULL_SECRETS + 1  # the ServiceAccount: its Secrets are known

    play(scenario)


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (500, MOST_ENTRIES), (5000, 0)])
def test_one_secret_has_no_thousand_entries(count: int, kept: int) -> None:
    async def scenario() -> None:
        entry = {"username": "robot", "password": "x"}
        text = json.dumps({"auths": {f"registry.example/{n}": entry for n in range(count)}})
        facts = ImageFacts(Api({SECRET: secret(text)}), images := Scripted())
        await facts.gather(asked_of(imagePullSecrets=[{"name": "regcred"}]), 1)
        places = (Reference("registry.example", str(n)) for n in range(count))
        found = sum(bool(images.keyrings[-1].candidates(each)) for each in places)
        assert found >= kept
        assert bool(found) is bool(kept)
        assert len(images.keyrings[-1]._keys) == kept

    play(scenario)


def test_volumes_beyond_measure_are_not_asked_for() -> None:
    volumes = [{"name": f"v{n}", "image": {"reference": f"r{n}.example/a:1"}} for n in range(5000)]
    assert len(asked_of(volumes=volumes).pin) == MOST_ASKED


def test_where_digests_are_only_observed_a_pod_is_told_which_it_would_get() -> None:
    async def scenario() -> None:
        bare = revision("ReplicaSet", digest="", uid=UID)
        for answer in (bare, ApiError("forbidden", 403)):
            facts = ImageFacts(Api({REPLICA_SET: answer}), Scripted())
            inquiry = asked_of(owner=OWNED, policy=observing(PRESETS["hardened"]))
            assert (await facts.gather(inquiry, 1)).digests == {IMAGE: DIGEST}
            known = facts.known(inquiry)
            assert known is not None
            assert known.digests == {IMAGE: DIGEST}
        facts = ImageFacts(Api({REPLICA_SET: revision("ReplicaSet", uid=UID)}), Scripted())
        assert (await facts.gather(inquiry, 1)).digests == {IMAGE: OTHER}

    play(scenario)
