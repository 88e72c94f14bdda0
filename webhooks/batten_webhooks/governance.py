"""Which policy governs a Pod, and which exceptions hold for it. Pure: no I/O, and time is given.

Exactly one policy governs: of those that match the one of highest priority, of equal ones the first
by name; where none matches it is the default.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from batten_webhooks.image_pattern import ImagePattern
from batten_webhooks.policy import Policy
from batten_webhooks.selectors import EVERYTHING, Labels, Requirement, Selector
from batten_webhooks.workload import Workload

# The API server sets this label on every Namespace and lets nobody change it (KEP-2161).
NAME_LABEL = "kubernetes.io/metadata.name"
# What the chart's webhooks leave alone: its own list and the values' default one.
ALWAYS_EXEMPT = frozenset(("kube-system", "kube-public", "kube-node-lease"))
EXEMPT = ALWAYS_EXEMPT.union(
    (
        "batten-system",
        "calico-system",
        "kube-flannel",
        "local-path-storage",
        "longhorn-system",
        "openebs",
        "rook-ceph",
        "tigera-operator",
    )
)
# Namespaces whose part of the snapshot is kept ready.
MOST_NAMESPACES = 10_000
# Two weeks before its end an exception is warned of.
EXPIRES_SOON = 14 * 24 * 3600.0
DEFAULT_WHY = "no policy matches"
# No label can have this value.
UNNAMED = frozenset(("any other",))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GoverningPolicy:
    """A HardeningPolicy. `pods` counts only together with a `namespaces` that selects by something:
    labels of Pods are the governed's own."""

    name: str
    policy: Policy
    priority: int = 0
    namespaces: Selector = EVERYTHING
    pods: Selector = EVERYTHING

    @property
    def why(self) -> str:
        how = "it matches every Pod"
        if self.namespaces.requirements:
            how = "its namespaceSelector matches"
        if self.pods.requirements:
            how = "its namespaceSelector and podSelector match"
        return f"priority {self.priority}, {how}"


@dataclass(frozen=True, slots=True)
class Exemption:
    """A HardeningException. `expires` is in Unix seconds. Empty `containers` and `images` are all,
    and what belongs to the Pod as a whole is lifted by an exception without both only."""

    name: str
    namespaces: frozenset[str]
    rules: frozenset[str]
    reason: str
    expires: float
    pods: Selector = EVERYTHING
    containers: frozenset[str] = frozenset()
    images: tuple[ImagePattern, ...] = ()

    @property
    def end(self) -> str:
        """When it ends, in RFC 3339."""
        return f"{datetime.fromtimestamp(self.expires, UTC):%Y-%m-%dT%H:%M:%SZ}"

    @property
    def everywhere(self) -> bool:
        """Whether it holds for all of its namespaces."""
        return not (self.pods.requirements or self.containers or self.images)

    def covers(self, container: str, images: Iterable[str]) -> bool:
        """`images` are those of all containers of that name."""
        if self.containers and container not in self.containers:
            return False
        if not self.images:
            return True
        found = list(images)
        return bool(found) and all(
            any(pattern.matches(image) for pattern in self.images) for image in found
        )


class _Index(Generic[T]):
    """Items in their order, found by a few keys; those without keys are always found."""

    def __init__(self, items: Iterable[T], keys: Callable[[T], Iterable[Hashable]]) -> None:
        self._items = tuple(items)
        self.empty = not self._items
        self._by_key: dict[Hashable, list[int]] = {}
        self._always: list[int] = []
        for rank, item in enumerate(self._items):
            own = tuple(keys(item))
            for key in own:
                self._by_key.setdefault(key, []).append(rank)
            if not own:
                self._always.append(rank)

    def of(self, keys: Iterable[Hashable]) -> Sequence[T]:
        if not self._by_key:
            return self._items
        ranks = list(self._always)
        for key in keys:
            ranks += self._by_key.get(key, ())
        return [self._items[rank] for rank in sorted(set(ranks))]


def _label_keys(selector: Selector) -> tuple[Hashable, ...]:
    requirement = selector.equality
    return tuple((requirement.key, value) for value in requirement.values) if requirement else ()


def _exemption_keys(exemption: Exemption) -> tuple[Hashable, ...]:
    return _label_keys(exemption.pods) or tuple(exemption.containers)


class Holding:
    """The exceptions that hold for one workload, by rule."""

    __slots__ = ("_covered", "_images", "rules")

    def __init__(self, rules: dict[str, list[Exemption]], workload: Workload) -> None:
        self.rules = rules
        self._images: dict[str, list[str]] = {}
        self._covered: dict[tuple[int, str], bool] = {}
        for site in workload.sites if rules else ():
            self._images.setdefault(site.name, []).append(site.container.image or "")

    def lifting(self, rule: str, container: str) -> Exemption | None:
        """The one that lifts a finding of the rule, "" being the Pod itself: the last to end."""
        covering = [
            exemption
            for exemption in self.rules.get(rule, ())
            if self._covers(exemption, container)
        ]
        return max(covering, key=lambda exemption: exemption.expires, default=None)

    def containers(self, rule: str) -> frozenset[str]:
        """The names of the containers for which the rule is lifted."""
        return frozenset(name for name in self._images if self.lifting(rule, name) is not None)

    def _covers(self, exemption: Exemption, container: str) -> bool:
        """Images are read once for all rules: of a thousand containers that takes its time."""
        if not exemption.images:
            return exemption.covers(container, ())
        key = id(exemption), container
        if key not in self._covered:
            # A container without a name is none that could be told from the Pod itself.
            images = self._images.get(container, ()) if container else ()
            self._covered[key] = exemption.covers(container, images)
        return self._covered[key]


class Exemptions:
    """Those of one namespace, at one time, for Pods with these labels."""

    __slots__ = ("_index", "_now", "_pod_labels")

    def __init__(self, index: _Index[Exemption], pod_labels: Labels, now: float) -> None:
        self._index = index
        self._pod_labels = pod_labels
        self._now = now

    def holding(self, workload: Workload) -> Holding:
        if self._index.empty:
            return Holding({}, workload)
        keys: list[Hashable] = [*self._pod_labels.items()]
        keys += [site.name for site in workload.sites]
        by_rule: dict[str, list[Exemption]] = {}
        for exemption in self._index.of(keys):
            if exemption.expires > self._now and exemption.pods.matches(self._pod_labels):
                for rule in exemption.rules:
                    by_rule.setdefault(rule, []).append(exemption)
        return Holding(by_rule, workload)


NO_EXEMPTIONS = Exemptions(_Index((), _exemption_keys), {}, 0.0)


@dataclass(frozen=True, slots=True)
class Governed:
    """What holds for one Pod. `why` completes "governed by TITLE: …"."""

    policy: Policy
    why: str = DEFAULT_WHY
    exemptions: Exemptions = NO_EXEMPTIONS

    def __str__(self) -> str:
        return f"{self.policy.title} ({self.why})"


@dataclass(slots=True)
class _Namespace:
    """What of a snapshot concerns the namespace while it has these labels."""

    labels: Labels
    policies: _Index[GoverningPolicy]


class Governance:
    """A snapshot of all policies and exceptions; changes make another one."""

    def __init__(
        self,
        default: Policy,
        policies: Iterable[GoverningPolicy] = (),
        exemptions: Iterable[Exemption] = (),
    ) -> None:
        self.default = default
        self.policies = tuple(sorted(policies, key=lambda p: (-p.priority, p.name)))
        self.exemptions = tuple(sorted(exemptions, key=lambda e: e.name))
        keys = frozenset[str]().union(*(policy.namespaces.keys for policy in self.policies))
        self.namespace_keys = keys - {NAME_LABEL}
        self._exempt = _by_namespace(self.exemptions)
        self._by_name = {exemption.name: exemption for exemption in self.exemptions}
        self._namespaces: dict[str, _Namespace] = {}

    @property
    def needs_labels(self) -> bool:
        """Whether more of a namespace than its name decides."""
        return bool(self.namespace_keys)

    def governing(
        self, namespace: str, namespace_labels: Labels, pod_labels: Labels, now: float
    ) -> Governed:
        """`now` is in Unix seconds; the labels of the namespace matter where `needs_labels`."""
        index = self._exempt.get(namespace)
        exemptions = Exemptions(index, pod_labels, now) if index else NO_EXEMPTIONS
        if self.policies:
            for policy in self._in(namespace, namespace_labels).of(pod_labels.items()):
                if policy.pods.matches(pod_labels):
                    return Governed(policy.policy, policy.why, exemptions)
        return Governed(self.default, DEFAULT_WHY, exemptions)

    def matching(
        self, namespace: str, namespace_labels: Labels, pod_labels: Labels
    ) -> list[GoverningPolicy]:
        """All policies that match, the governing one first."""
        named = {**namespace_labels, NAME_LABEL: namespace}
        return [
            policy
            for policy in self.policies
            if policy.namespaces.matches(named) and policy.pods.matches(pod_labels)
        ]

    def exemption(self, name: str) -> Exemption | None:
        return self._by_name.get(name)

    def _in(self, namespace: str, labels: Labels) -> _Index[GoverningPolicy]:
        known = self._namespaces.get(namespace)
        if known is not None and known.labels == labels:
            return known.policies
        named = {**labels, NAME_LABEL: namespace}
        found = [policy for policy in self.policies if policy.namespaces.matches(named)]
        index = _Index(_until_certain(found), lambda policy: _label_keys(policy.pods))
        if len(self._namespaces) >= MOST_NAMESPACES:
            self._namespaces.clear()
        self._namespaces[namespace] = _Namespace(dict(labels), index)
        return index


def conflicts(policy: GoverningPolicy, others: Iterable[GoverningPolicy]) -> list[str]:
    """What may compete with the policy: of one priority the first by name governs."""
    return [
        f'HardeningPolicy "{policy.name}": spec.priority: HardeningPolicy "{other.name}" has'
        f" {other.priority}, too: where both match, "
        f'"{min(policy.name, other.name)}" governs, the first by name'
        for other in others
        if other.priority == policy.priority and not disjoint(policy, other)
    ]


def disjoint(one: GoverningPolicy, other: GoverningPolicy) -> bool:
    """Whether no labels that a Namespace and a Pod may have match both."""
    return not (_compatible(one.namespaces, other.namespaces) and _compatible(one.pods, other.pods))


def _compatible(one: Selector, other: Selector) -> bool:
    by_key: dict[str, list[Requirement]] = {}
    for requirement in (*one.requirements, *other.requirements):
        by_key.setdefault(requirement.key, []).append(requirement)
    return all(_satisfiable(key, requirements) for key, requirements in by_key.items())


def _satisfiable(key: str, requirements: list[Requirement]) -> bool:
    """By no label, by one of the values that `In` leaves, or else by a value that nobody names."""
    named = [requirement.values for requirement in requirements if requirement.operator == "In"]
    candidates: list[Labels] = [
        {},
        *({key: value} for value in min(named, key=len, default=UNNAMED)),
    ]
    return any(all(r.matches(labels) for r in requirements) for labels in candidates)


def _until_certain(policies: Iterable[GoverningPolicy]) -> Iterable[GoverningPolicy]:
    """What comes after a policy for every Pod governs none."""
    for policy in policies:
        yield policy
        if not policy.pods.requirements:
            return


def _by_namespace(exemptions: Iterable[Exemption]) -> dict[str, _Index[Exemption]]:
    lists: dict[str, list[Exemption]] = {}
    for exemption in exemptions:
        for namespace in exemption.namespaces:
            lists.setdefault(namespace, []).append(exemption)
    return {name: _Index(_needed(found), _exemption_keys) for name, found in lists.items()}


def _needed(exemptions: list[Exemption]) -> list[Exemption]:
    """Of those that lift a rule in the whole namespace only the last to end counts."""
    last: dict[str, float] = {}
    for exemption in exemptions:
        if exemption.everywhere:
            for rule in exemption.rules:
                last[rule] = max(exemption.expires, last.get(rule, 0.0))
    return [
        exemption
        for exemption in exemptions
        if not exemption.everywhere
        or any(exemption.expires == last[rule] for rule in exemption.rules)
    ]
