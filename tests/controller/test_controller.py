"""The controller on a real API server: statuses, reports, events, and how often it writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from batten_cluster import ControlPlane
from batten_e2e import IMAGE, Namespace, eventually, new_namespace
from batten_install import Installation
from batten_reports import REPORTS, reports_definition

pytestmark = pytest.mark.cluster

KEPT = {"secrets", "mutatingwebhookconfigurations", "validatingwebhookconfigurations"}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("controller")) as running:
        running.kubectl("apply", "-f", "-", stdin=reports_definition()).require()
        yield running


@pytest.fixture(scope="module")
def shop(plane: ControlPlane) -> Iterator[Namespace]:
    """Workloads that were there before Batten: one fine, one to change, one to refuse."""
    with new_namespace(plane.kubectl, "shop", {"team": "shop"}) as namespace:
        root = {"securityContext": {"runAsUser": 0}}
        namespace.apply(deployment("plain"), deployment("root", **root)).require()
        namespace.pods(2)
        installation = Installation(plane, plane.kubectl)
        installation.install()
        yield namespace
        installation.stop()


def deployment(name: str, **fields: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "app", "image": IMAGE, **fields}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def ours(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    head = {"apiVersion": "batten.dev/v1alpha1", "kind": kind}
    return {**head, "metadata": {"name": name}, "spec": spec}


def policy(name: str, **spec: Any) -> dict[str, Any]:
    match = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}
    return ours("HardeningPolicy", name, match=match, **spec)


def status_of(namespace: Namespace, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        namespace.run("get", kind, name, "-o", "json").require().stdout
    )
    status: dict[str, Any] = found.get("status") or {}
    fresh = status.get("observedGeneration") == found["metadata"]["generation"]
    return status if fresh else {}


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each["status"] for each in status.get("conditions", ())}


def until(
    namespace: Namespace, kind: str, name: str, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        status = status_of(namespace, kind, name)
        return status if status and wanted(status) else None

    return eventually(reached, f"the status of {kind} {name}", 60)


def test_a_policy_tells_whom_it_meets(shop: Namespace) -> None:
    shop.apply(policy("shop", priority=5)).require()
    status = until(shop, "hardeningpolicy", "shop", lambda s: s["workloads"]["governed"] == 2)
    assert status["workloads"] == {"governed": 2, "changed": 2, "refused": 1}
    assert conditions(status) == {"Accepted": "True", "Conflict": "False"}
    shown = shop.run("get", "hardeningpolicies", "shop").require().stdout.split()
    assert shown[-5:-1] == ["True", "2", "2", "1"]


def test_equal_priorities_show_a_conflict(shop: Namespace) -> None:
    some = {"matchExpressions": [{"key": "team", "operator": "Exists"}]}
    rival = ours("HardeningPolicy", "a-rival", match={"namespaceSelector": some}, priority=5)
    shop.apply(rival).require()
    for name in ("shop", "a-rival"):
        status = until(shop, "hardeningpolicy", name, lambda s: conditions(s)["Conflict"] == "True")
        (told,) = (each for each in status["conditions"] if each["type"] == "Conflict")
        assert '"a-rival" governs, the first by name' in told["message"]
    shop.run("delete", "hardeningpolicy", "a-rival").require()
    until(shop, "hardeningpolicy", "shop", lambda s: conditions(s)["Conflict"] == "False")


def reports(namespace: Namespace) -> dict[str, dict[str, Any]]:
    return {item["scope"]["name"]: item for item in namespace.get(REPORTS)["items"]}


def test_one_report_per_workload_that_goes_with_it(shop: Namespace) -> None:
    def by_the_policy() -> dict[str, dict[str, Any]] | None:
        found = reports(shop)
        policies = {result["policy"] for item in found.values() for result in item["results"]}
        return found if len(found) == 2 and policies == {'HardeningPolicy "shop"'} else None

    found = eventually(by_the_policy, "a report for each", 60)
    root = found["root"]
    assert root["scope"]["kind"] == "Deployment"
    assert root["summary"]["fail"] == 1
    worst = root["results"][0]
    assert (worst["rule"], worst["result"], worst["scored"]) == ("run-as-non-root", "fail", True)
    assert worst["properties"]["path"] == (
        "spec.template.spec.containers[0].securityContext.runAsUser"
    )
    # What has not changed is not written again.
    before = {name: item["metadata"]["resourceVersion"] for name, item in found.items()}
    shop.apply(
        ours(
            "HardeningPolicy",
            "elsewhere",
            priority=-7,
            match={"namespaceSelector": {"matchLabels": {"team": "none"}}},
        )
    ).require()
    until(shop, "hardeningpolicy", "elsewhere", lambda s: s["workloads"]["governed"] == 0)
    after = {name: item["metadata"]["resourceVersion"] for name, item in reports(shop).items()}
    assert after == before
    shop.kubectl("delete", "deployment", "root").require()
    eventually(lambda: "root" not in reports(shop) or None, "the report goes with its owner", 60)


def test_an_exception_that_ends_soon_is_told_of(shop: Namespace) -> None:
    ends = (datetime.now(UTC) + timedelta(days=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    granted = ours(
        "HardeningException",
        "legacy",
        match={"namespaces": ["shop"]},
        rules=["run-as-non-root"],
        reason="VENDOR-123",
        expires=ends,
    )
    shop.apply(granted).require()
    wanted = {"Accepted": "True", "ExpiresSoon": "True", "Expired": "False"}
    until(shop, "hardeningexception", "legacy", lambda s: conditions(s) == wanted)

    def told() -> list[Any] | None:
        events = shop.run(
            "get", "events", "-n", "default", "--field-selector=reason=ExpiresSoon", "-o", "json"
        )
        items: list[Any] = json.loads(events.require().stdout)["items"]
        return items or None

    (event,) = eventually(told, "an event of the exception")
    assert event["involvedObject"]["name"] == "legacy"
    assert ends in event["message"]


def test_a_refusal_is_an_event_but_no_dry_run_is(shop: Namespace) -> None:
    privileged = deployment("refused", securityContext={"privileged": True})
    manifest = json.dumps(privileged)
    assert shop.kubectl("create", "--dry-run=server", "-f", "-", stdin=manifest).code

    def events() -> list[Any]:
        selector = "--field-selector=reason=PolicyViolation"
        items: list[Any] = shop.get("events", selector)["items"]
        return items

    assert shop.kubectl("create", "-f", "-", stdin=manifest).code
    assert shop.kubectl("create", "-f", "-", stdin=manifest).code
    (event,) = eventually(lambda: events() or None, "an event of the refusal")
    assert (
        event["involvedObject"] | {"name": "refused", "kind": "Deployment"}
        == event["involvedObject"]
    )
    assert "no-privileged" in event["message"]
    assert len(event["message"].encode()) <= 1024


def test_no_second_has_more_than_five_writes(shop: Namespace, plane: ControlPlane) -> None:
    """As the API server counts them, while many workloads change at once.

    What the certificate's keeper writes at its start is the webhooks', not the controller's.
    """
    shop.apply(*(deployment(f"many-{number}") for number in range(12))).require()
    shop.apply(policy("shop", priority=6)).require()
    eventually(lambda: len(reports(shop)) >= 13 or None, "a report for each", 120)
    user = "system:serviceaccount:batten-system:batten"
    seconds = Counter(
        event["stageTimestamp"][:19]
        for event in map(json.loads, plane.audit_log.read_text().splitlines())
        if event["user"]["username"] == user
        and event["verb"] in {"create", "update", "patch", "delete"}
        and event["objectRef"]["resource"] not in KEPT
    )
    assert sum(seconds.values()) > 20
    assert max(seconds.values()) <= 5
