"""What governs, read from a real API server without any webhook in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import yaml
from batten_cluster import ControlPlane, free_ports
from batten_e2e import eventually
from batten_serving import pod_review, serving

from batten_operator.cluster import ApiError, Cluster
from batten_operator.policies import Policies
from batten_operator.scan import cluster_governance, reader
from batten_webhooks.governance import GoverningPolicy
from batten_webhooks.policy import PRESETS
from batten_webhooks.resources import crds
from batten_webhooks.selectors import selector
from batten_webhooks.workload import TEMPLATE_PATHS

DEFAULT = PRESETS["hardened"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("policies"), controllers=False) as running:
        yield running


@pytest.fixture
def cluster(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> ControlPlane:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    return plane


@pytest.fixture
def nowhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that does not answer."""
    (port,) = free_ports(1)
    cluster = {"name": "a", "cluster": {"server": f"https://127.0.0.1:{port}"}}
    context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
    user = {"name": "a", "user": {"token": "t"}}
    config = {"clusters": [cluster], "users": [user], "contexts": [context]}
    (tmp_path / "config").write_text(json.dumps({**config, "current-context": "a"}))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))


def play(scenario: Callable[[Policies], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster = Cluster()
        try:
            async with asyncio.timeout(60):
                await scenario(Policies(DEFAULT, TEMPLATE_PATHS, cluster))
        finally:
            await cluster.close()

    asyncio.run(main())


@pytest.mark.cluster
def test_a_namespace_that_nobody_told_of_is_looked_up_once(cluster: ControlPlane) -> None:
    cluster.kubectl("create", "namespace", "fresh").require()
    cluster.kubectl("label", "namespace", "fresh", "tier=gold").require()

    async def scenario(policies: Policies) -> None:
        await asyncio.gather(*(policies.look_up("fresh") for _ in range(20)))
        assert policies.known().namespaces["fresh"]["tier"] == "gold"
        policies.namespace("fresh", {"tier": "lead"})  # what a watch tells is newer
        await policies.look_up("fresh")
        assert policies.known().namespaces["fresh"]["tier"] == "lead"
        with pytest.raises(ApiError, match="not found"):
            await policies.look_up("no-such")
        assert "no-such" not in policies.known().namespaces

    play(scenario)

    def asked() -> list[Any]:
        events = map(json.loads, cluster.audit_log.read_text().splitlines())
        return [
            event
            for event in events
            if event["verb"] == "get"
            and event.get("objectRef", {}).get("name") == "fresh"
            and "batten" in event.get("userAgent", "")
        ]

    assert len(eventually(lambda: asked() or None, "the audit log")) == 2


@pytest.mark.usefixtures("nowhere")
def test_a_namespace_that_cannot_be_read_is_an_error_and_no_answer() -> None:
    async def main() -> None:
        async with serving(Cluster()) as served:
            chosen = GoverningPolicy("a", PRESETS["baseline"], 0, selector({"tier": "gold"}))
            served.govern(chosen)
            for path in ("/mutate", "/validate"):
                status, told = await served.post(f"{path}?timeout=5s", pod_review())
                assert status == 500
                assert "labels of the request's namespace" in told["message"]
            served.tell("", {"tier": "gold"})
            served.tell("shop", {"tier": "gold"})
            status, told = await served.post("/validate?timeout=5s", pod_review())
            assert status == 200

    asyncio.run(main())


def manifest(name: str, **spec: Any) -> str:
    head = {"apiVersion": "batten.dev/v1alpha1", "kind": "HardeningPolicy"}
    return json.dumps({**head, "metadata": {"name": name}, "spec": spec})


@pytest.mark.cluster
def test_what_is_stored_and_wrong_leaves_the_last_good_one(cluster: ControlPlane) -> None:
    kubectl = cluster.kubectl

    def apply(text: str) -> None:
        kubectl("apply", "-f", "-", stdin=text).require()

    async def until(what: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not what():  # noqa: ASYNC110 - another thread's kubectl is waited for
                await asyncio.sleep(0.05)

    async def scenario(policies: Policies) -> None:
        appeared: list[str] = []
        running = asyncio.ensure_future(policies.run(lambda: appeared.append("again")))
        # Without the definitions the default governs, and nobody waits for them.
        await until(policies.read.is_set)
        assert not policies.governance.policies
        for crd in crds().values():
            await asyncio.to_thread(apply, yaml.safe_dump(crd))
        waited = ("wait", "--for=condition=Established", "crd", "--all")
        await asyncio.to_thread(kubectl, *waited)
        await until(lambda: bool(appeared))

        await asyncio.to_thread(apply, manifest("a", priority=7))
        policies.wake("hardeningpolicies", {"name": "a"}, deleted=False)
        await until(lambda: bool(policies.governance.policies))
        await asyncio.to_thread(apply, manifest("a", priority=8, rules={"no-such-rule": {}}))
        await asyncio.to_thread(apply, manifest("b", rule={}))
        policies.wake("hardeningpolicies", {"name": "b"}, deleted=False)
        await until(lambda: len(policies.invalid) == 2)
        (kept,) = list(policies.governance.policies)
        assert (kept.name, kept.priority) == ("a", 7)
        told = policies.invalid["hardeningpolicies", "a"]
        assert told.errors[0][0] == "spec.rules.no-such-rule"

        await asyncio.to_thread(kubectl, "delete", "hardeningpolicies", "--all")
        policies.wake("hardeningpolicies", {"name": "a"}, deleted=True)
        await until(lambda: not policies.governance.policies)
        assert policies.invalid == {}
        running.cancel()

    play(scenario)


@pytest.mark.cluster
def test_an_audit_reads_no_wrong_policy_as_none(cluster: ControlPlane) -> None:
    for crd in crds().values():
        cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(crd)).require()
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all").require()
    cluster.kubectl("apply", "-f", "-", stdin=manifest("wrong", rule={})).require()

    async def main() -> None:
        async with reader() as opened:
            with pytest.raises(ApiError, match=r"spec\.rule: unknown field"):
                await cluster_governance(opened, DEFAULT)

    asyncio.run(main())
    cluster.kubectl("delete", "hardeningpolicy", "wrong").require()
