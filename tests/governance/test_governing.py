"""Which policy governs, and which exceptions hold: compared with the plainest way to find out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks import governance as module
from batten_webhooks.governance import (
    Exemption,
    Governance,
    GoverningPolicy,
    conflicts,
    disjoint,
)
from batten_webhooks.image_pattern import parse_pattern
from batten_webhooks.policy import PRESETS, Policy
from batten_webhooks.selectors import EVERYTHING, Operator, Requirement, Selector, selector
from batten_webhooks.workload import read_object

DEFAULT = Policy("the default", ())
NOW = 1_800_000_000.0

keys, values = st.sampled_from("abc"), st.sampled_from(["", "1", "2"])
operators: st.SearchStrategy[Operator] = st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])
requirements = st.builds(
    lambda key, operator, some: Requirement(
        key, operator, frozenset(some) if operator in {"In", "NotIn"} else frozenset()
    ),
    keys,
    operators,
    st.sets(values, min_size=1),
)
selectors = st.builds(lambda found: selector({}, tuple(found)), st.lists(requirements, max_size=2))
labels = st.dictionaries(keys, values)
policies = st.lists(
    st.builds(
        lambda name, priority, namespaces, pods: GoverningPolicy(
            name, Policy(name, ()), priority, namespaces, pods
        ),
        st.text("xyz", min_size=1, max_size=4),
        st.integers(-2, 2),
        selectors,
        selectors,
    ),
    max_size=12,
    unique_by=lambda policy: policy.name,
)


@given(policies, st.lists(st.tuples(labels, labels), min_size=1, max_size=4))
def test_the_first_that_matches_governs(
    found: list[GoverningPolicy], asked: list[tuple[dict[str, str], dict[str, str]]]
) -> None:
    """One snapshot, asked for one namespace whose labels change."""
    snapshot = Governance(DEFAULT, found)
    for namespace, pod in asked:
        matching = [
            policy
            for policy in sorted(found, key=lambda policy: (-policy.priority, policy.name))
            if policy.namespaces.matches(namespace) and policy.pods.matches(pod)
        ]
        expected = matching[0].policy if matching else DEFAULT
        assert snapshot.governing("shop", namespace, pod, NOW).policy is expected
        assert snapshot.matching("shop", namespace, pod) == matching


def test_a_name_needs_no_labels() -> None:
    named = selector({"kubernetes.io/metadata.name": "shop"})
    snapshot = Governance(DEFAULT, [GoverningPolicy("a", PRESETS["baseline"], 0, named)])
    assert not snapshot.needs_labels
    assert snapshot.governing("shop", {}, {}, NOW).policy is PRESETS["baseline"]
    # Nobody gives a namespace another name by a label.
    forged = {"kubernetes.io/metadata.name": "shop"}
    assert snapshot.governing("other", forged, {}, NOW).policy is DEFAULT


def test_what_is_kept_ready_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NAMESPACES", 5)
    snapshot = Governance(DEFAULT, [GoverningPolicy("a", DEFAULT)])
    for number in range(50):
        snapshot.governing(f"namespace-{number}", {}, {}, NOW)
        assert len(snapshot._namespaces) <= 5


# --- conflicts -----------------------------------------------------------------------------------


def policy(name: str, namespaces: Selector = EVERYTHING, pods: Selector = EVERYTHING) -> Any:
    return GoverningPolicy(name, DEFAULT, 0, namespaces, pods)


def test_policies_that_cannot_match_the_same_pod_do_not_conflict() -> None:
    gold, lead = selector({"tier": "gold"}), selector({"tier": "lead"})
    some = selector({}, (Requirement("tier", "Exists"),))
    assert disjoint(policy("a", gold), policy("b", lead))
    assert not disjoint(policy("a", gold), policy("b", some))
    assert disjoint(policy("a", some, gold), policy("b", some, lead))
    assert conflicts(policy("b", gold), [policy("a", lead)]) == []
    (told,) = conflicts(policy("b", gold), [policy("a", some)])
    assert '"a" governs, the first by name' in told


@given(selectors, selectors, selectors, selectors)
def test_disjoint_is_exact(
    namespaces: Selector, pods: Selector, other_namespaces: Selector, other_pods: Selector
) -> None:
    """Each key for itself absent, one of the values, or another one than all of them."""
    worlds = [
        {key: value for key, value in zip("abc", found, strict=True) if value is not None}
        for found in itertools.product((None, "", "1", "2", "else"), repeat=3)
    ]

    def both(one: Selector, other: Selector) -> bool:
        return any(one.matches(labels) and other.matches(labels) for labels in worlds)

    told = disjoint(policy("a", namespaces, pods), policy("b", other_namespaces, other_pods))
    assert told is not (both(namespaces, other_namespaces) and both(pods, other_pods))


# --- exceptions ----------------------------------------------------------------------------------


def workload(*containers: dict[str, str], **labels: str) -> Any:
    value = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": labels},
        "spec": {"containers": list(containers) or [{"name": "app", "image": "nginx:1"}]},
    }
    return read_object(value)


def exemption(name: str = "e", **fields: Any) -> Exemption:
    given = {"namespaces": {"shop"}, "rules": {"probes"}, "expires": NOW + 1, **fields}
    sets = ("namespaces", "rules", "containers")
    changed = {key: frozenset(v) if key in sets else v for key, v in given.items()}
    made: Any = {"name": name, "reason": "r", **changed}
    return Exemption(**made)


def lifting(
    found: Exemption, container: str = "app", namespace: str = "shop", pod: Any = None
) -> bool:
    subject = pod or workload()
    labels = subject.template.metadata.labels or {}
    governed = Governance(DEFAULT, (), [found]).governing(namespace, {}, labels, NOW)
    return governed.exemptions.holding(subject).lifting("probes", container) is found


def test_an_exception_holds_where_all_of_it_matches() -> None:
    assert lifting(exemption())
    assert lifting(exemption(), container="")
    assert not lifting(exemption(), namespace="shop-evil")
    assert not lifting(exemption(rules={"resources"}))
    assert lifting(exemption(containers={"app"}))
    assert not lifting(exemption(containers={"app"}), container="")
    assert not lifting(exemption(containers={"other"}))
    images = (parse_pattern("docker.io/library/*"),)
    assert lifting(exemption(images=images))
    assert not lifting(exemption(images=images), container="")
    assert not lifting(exemption(images=images), container="no-such")
    pods = selector({"app": "web"})
    assert lifting(exemption(pods=pods), pod=workload(app="web"))
    assert not lifting(exemption(pods=pods), pod=workload(app="other"))


def test_it_ends_to_the_second() -> None:
    assert lifting(exemption(expires=NOW + 0.001))
    assert not lifting(exemption(expires=NOW))


def test_containers_of_one_name_are_only_lifted_together() -> None:
    images = (parse_pattern("nginx"),)
    twice = workload({"name": "app", "image": "nginx"}, {"name": "app", "image": "evil/nginx"})
    assert not lifting(exemption(images=images), pod=twice)


def test_of_many_the_last_to_end_is_named() -> None:
    some = [exemption(f"e{number}", expires=NOW + number) for number in range(1, 6)]
    some.append(exemption("app", expires=NOW + 3, containers={"app"}))
    governed = Governance(DEFAULT, (), some).governing("shop", {}, {}, NOW)
    found = governed.exemptions.holding(workload()).lifting("probes", "app")
    assert found is not None
    assert found.name == "e5"


def test_images_are_read_once_for_all_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may create Pods could stall the webhooks with many containers otherwise."""
    read: list[str] = []
    covers = Exemption.covers

    def counted(self: Exemption, container: str, images: Iterable[str]) -> bool:
        images = list(images)
        read.extend(images)
        return covers(self, container, images)

    monkeypatch.setattr(Exemption, "covers", counted)
    containers = [{"name": f"c{number}", "image": "nginx:1"} for number in range(1000)]
    rules = {setting.rule.name for setting in PRESETS["hardened"].settings}
    found = exemption(rules=rules, images=(parse_pattern("redis"), parse_pattern("nginx")))
    governed = Governance(DEFAULT, (), [found]).governing("shop", {}, {}, NOW)
    holding = governed.exemptions.holding(workload(*containers))
    lifted = {name for rule in rules for name in holding.containers(rule)}
    assert len(lifted) == len(containers)
    assert len(read) == len(containers)


def test_a_container_without_a_name_is_not_the_pod() -> None:
    nameless = workload({"image": "nginx:1"})
    assert not lifting(exemption(images=(parse_pattern("nginx"),)), container="", pod=nameless)


pods_of = st.builds(
    lambda names, found: workload(*({"name": n, "image": i} for n, i in names), **found),
    st.lists(
        st.tuples(st.sampled_from(["app", "db", "log"]), st.sampled_from(["nginx:1", "x.io/a"])),
        min_size=1,
        max_size=4,
    ),
    st.dictionaries(keys, values),
)
some_exemptions = st.lists(
    st.builds(
        lambda name, rules, expires, pods, containers, images: exemption(
            name,
            rules=rules,
            expires=NOW + expires,
            pods=pods,
            containers=containers,
            images=tuple(map(parse_pattern, images)),
        ),
        st.text("xyz", min_size=1, max_size=4),
        st.sets(st.sampled_from(["probes", "resources"]), min_size=1),
        st.integers(-2, 3),
        selectors,
        st.sets(st.sampled_from(["app", "db"]), max_size=1),
        st.lists(st.sampled_from(["nginx", "x.io/*"]), max_size=1),
    ),
    max_size=8,
    unique_by=lambda found: found.name,
)


@given(some_exemptions, pods_of)
def test_what_is_lifted_is_what_the_plainest_search_finds(
    found: list[Exemption], subject: Any
) -> None:
    pod_labels = subject.template.metadata.labels or {}
    governed = Governance(DEFAULT, (), found).governing("shop", {}, pod_labels, NOW)
    holding = governed.exemptions.holding(subject)
    for rule in ("probes", "resources"):
        for container in ("", *(site.name for site in subject.sites)):
            images = [s.container.image for s in subject.sites if s.name == container]
            ends = [
                each.expires
                for each in found
                if rule in each.rules
                and each.expires > NOW
                and each.pods.matches(pod_labels)
                and (not each.containers or container in each.containers)
                and (
                    not each.images
                    or (images and all(any(p.matches(i) for p in each.images) for i in images))
                )
            ]
            lifts = holding.lifting(rule, container)
            assert (lifts.expires if lifts else None) == max(ends, default=None)


def test_containers_of_every_sort_are_told_by_name() -> None:
    value = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {
            "containers": [{"name": "app", "image": "nginx:1"}],
            "initContainers": [{"name": "setup", "image": "nginx:1"}],
            "ephemeralContainers": [{"name": "debug", "image": "nginx:1"}],
        },
    }
    subject = read_object(value)
    for name in ("app", "setup", "debug"):
        assert lifting(exemption(containers={name}), container=name, pod=subject)
    assert not lifting(exemption(containers={"app"}), container="setup", pod=subject)
    assert not lifting(exemption(containers={"app"}), container="debug", pod=subject)
