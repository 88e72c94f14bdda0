"""Label selectors with the semantics of Kubernetes' metav1.LabelSelector.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
Labels = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One demand on one label. `values` are those of `In` and `NotIn`, empty for the others."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        """`NotIn` and `DoesNotExist` match what does not have the label."""
        if self.operator == "In":
            return labels.get(self.key) in self.values
        if self.operator == "NotIn":
            return labels.get(self.key) not in self.values
        return (self.key in labels) == (self.operator == "Exists")


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements together; without any it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(requirement.key for requirement in self.requirements)

    @property
    def equality(self) -> Requirement | None:
        """A requirement that names all values a label may have, where there is one."""
        return next((r for r in self.requirements if r.operator == "In"), None)


EVERYTHING = Selector()


def selector(
    match_labels: Mapping[str, str], expressions: tuple[Requirement, ...] = ()
) -> Selector:
    """In one order, so that selectors that say the same are mostly equal."""
    labels = (
        Requirement(key, "In", frozenset((value,))) for key, value in sorted(match_labels.items())
    )
    ordered = sorted({*labels, *expressions}, key=lambda r: (r.key, r.operator, sorted(r.values)))
    return Selector(tuple(ordered))
