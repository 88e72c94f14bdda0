"""Whoever may write reports in one namespace keeps nobody else's scans out, nor reviews busy."""

from __future__ import annotations

from typing import Any

import pytest
from batten_scans import AMD64, digest

from batten_operator import image_scans, stored_scans
from batten_operator.cluster import Cluster
from batten_operator.image_scans import ImageScans
from batten_operator.stored_scans import StoredScans
from batten_webhooks.authorship import WRITTEN_BY
from batten_webhooks.reference import parse_reference
from batten_webhooks.rules.scanned_image import Source

NOW = "2026-11-20T00:00:00Z"


def report(namespace: str, name: str, found: int = 1, image: str = AMD64.manifest) -> Any:
    vulnerability = {"resource": "openssl", "installedVersion": "3", "severity": "HIGH"}
    return {
        "apiVersion": "aquasecurity.github.io/v1alpha1",
        "kind": "VulnerabilityReport",
        "metadata": {"namespace": namespace, "name": name},
        "report": {
            "updateTimestamp": NOW,
            "scanner": {"name": "Trivy", "vendor": "Aqua", "version": "0.68"},
            "registry": {"server": "registry.example"},
            "artifact": {"repository": "app", "digest": image},
            "summary": {},
            "vulnerabilities": [
                {**vulnerability, "vulnerabilityID": f"CVE-2026-{number}"}
                for number in range(found)
            ],
        },
    }


def take(scans: StoredScans, value: Any) -> None:
    metadata = value["metadata"]
    scans._take("VulnerabilityReport", (metadata["namespace"], metadata["name"]), value)


def drop(scans: StoredScans, namespace: str, name: str) -> None:
    scans._gone("VulnerabilityReport", (namespace, name))


def names(scans: StoredScans, image: str = AMD64.manifest) -> list[str]:
    return [f"{each.namespace}/{each.name}" for each in scans.of([image])]


@pytest.fixture
def scans() -> StoredScans:
    return StoredScans(Cluster())


def test_one_namespace_has_only_so_many_scans(
    scans: StoredScans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_scans, "MOST_SCANS_OF_ONE", 3)
    for number in range(5):
        take(scans, report("evil", str(number)))
    take(scans, report("good", "one"))
    assert names(scans) == ["evil/0", "evil/1", "evil/2", "good/one"]
    drop(scans, "evil", "0")
    take(scans, report("evil", "3"))
    assert names(scans) == ["evil/1", "evil/2", "evil/3", "good/one"]


def test_and_only_so_many_vulnerabilities(
    scans: StoredScans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_scans, "MOST_FOUND_OF_ONE", 10)
    take(scans, report("evil", "a", 7))
    take(scans, report("evil", "b", 7))
    take(scans, report("evil", "c", 3))
    take(scans, report("good", "one", 7))
    assert names(scans) == ["evil/a", "evil/c", "good/one"]
    take(scans, report("evil", "a", 2))  # one that shrinks leaves room
    take(scans, report("evil", "b", 5))
    assert names(scans) == ["evil/a", "evil/b", "evil/c", "good/one"]


def test_all_together_are_bounded(scans: StoredScans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_scans, "MOST_FOUND", 10)
    take(scans, report("one", "a", 8))
    take(scans, report("two", "b", 8))
    assert names(scans) == ["one/a"]
    drop(scans, "one", "a")
    take(scans, report("two", "b", 8))
    assert names(scans) == ["two/b"]
    monkeypatch.setattr(stored_scans, "MOST_SCANS", 1)
    take(scans, report("one", "a", 1))
    assert names(scans) == ["two/b"]


def test_one_namespace_tells_only_so_much_of_one_image(scans: StoredScans) -> None:
    for number in range(30):
        take(scans, report("evil", f"{number:02}"))
    take(scans, report("good", "one"))
    assert len(names(scans)) == stored_scans.MOST_OF_IMAGE + 1
    assert "good/one" in names(scans)


def test_what_nobody_trusts_keeps_nothing_out_that_somebody_does(scans: StoredScans) -> None:
    """A bad scan by Trivy Operator, in a Namespace whose own write reports with names before it."""
    operator = "system:serviceaccount:trivy-system:trivy-operator"
    for number in range(30):
        take(scans, report("evil", f"{number:02}"))
    bad = report("evil", "zz")
    bad["metadata"]["annotations"] = {WRITTEN_BY: operator}
    take(scans, bad)
    sources = (Source("VulnerabilityReport", users=(operator,)),)
    found = [each.name for each in scans.of([AMD64.manifest], sources)]
    assert len(found) == stored_scans.MOST_OF_IMAGE + 1
    assert found[-1] == "zz"


def test_of_many_that_are_trusted_the_newest_count(scans: StoredScans) -> None:
    for number in range(30):
        value = report("shop", f"{number:02}")
        value["report"]["updateTimestamp"] = f"2026-11-{number + 1:02}T00:00:00Z"
        take(scans, value)
    sources = (Source("VulnerabilityReport", namespaces=("shop",)),)
    found = [each.name for each in scans.of([AMD64.manifest], sources)]
    assert found == [f"{number:02}" for number in range(10, 30)]


def test_what_was_collected_is_held_by_its_weight(
    scans: StoredScans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one image there may be an attestation for each night, of thousands of vulnerabilities."""
    monkeypatch.setattr(image_scans, "MOST_HELD", 20)
    unasked: Any = None
    known = ImageScans(unasked, scans, unasked)
    sources = (Source("VulnerabilityReport", namespaces=("shop",)),)
    for name in ("one", "two", "three"):
        take(scans, report("shop", name, 9, image=digest(name)))
        collected = known._collect(parse_reference("app"), digest(name), (), sources, [])
        assert [each.origin for each in collected.found] == [f'VulnerabilityReport "shop/{name}"']
    assert [key[1] for key in known._collected] == [digest("two"), digest("three")]


def test_what_changes_of_one_image_changes_nothing_of_another(scans: StoredScans) -> None:
    other = digest("elsewhere")
    take(scans, report("shop", "a"))
    before = scans.version([AMD64.manifest])
    take(scans, report("evil", "a", image=other))
    drop(scans, "evil", "a")
    assert scans.version([AMD64.manifest]) == before
    seen = {before}
    for change in (report("shop", "a", 2), report("shop", "b")):
        take(scans, change)
        seen.add(scans.version([AMD64.manifest]))
    for name in ("a", "b"):
        drop(scans, "shop", name)
        seen.add(scans.version([AMD64.manifest]))
    take(scans, report("shop", "a"))
    seen.add(scans.version([AMD64.manifest]))
    assert len(seen) == 6
    assert (names(scans), scans.version([other])) == (["shop/a"], (0,))
