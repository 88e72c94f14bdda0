"""Selectors match as metav1.LabelSelector says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.selectors import Operator, Requirement, Selector, selector

# What metav1.LabelSelector says of a label that is there, is another, is empty, and is absent.
TABLE: list[tuple[Operator, tuple[str, ...], tuple[bool, bool, bool, bool]]] = [
    ("In", ("gold",), (True, False, False, False)),
    ("In", ("gold", ""), (True, False, True, False)),
    ("NotIn", ("gold",), (False, True, True, True)),
    ("NotIn", ("gold", ""), (False, True, False, True)),
    ("Exists", (), (True, True, True, False)),
    ("DoesNotExist", (), (False, False, False, True)),
]


@pytest.mark.parametrize(("operator", "values", "expected"), TABLE)
def test_one_requirement(
    operator: Operator, values: tuple[str, ...], expected: tuple[bool, ...]
) -> None:
    requirement = Requirement("tier", operator, frozenset(values))
    labels = ({"tier": "gold"}, {"tier": "lead"}, {"tier": ""}, {"other": "gold"})
    assert tuple(requirement.matches(each) for each in labels) == expected


def test_all_requirements_together_and_none_at_all() -> None:
    both = selector({"a": "1"}, (Requirement("b", "Exists"),))
    assert both.matches({"a": "1", "b": ""})
    assert not both.matches({"a": "1"})
    assert not both.matches({"b": "1"})
    assert Selector().matches({})
    assert selector({"b": "2", "a": "1"}) == selector({"a": "1", "b": "2"})


keys, values = st.sampled_from("abc"), st.sampled_from(["", "1", "2"])
labels = st.dictionaries(keys, values)
operators: st.SearchStrategy[Operator] = st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])
requirements = st.builds(Requirement, keys, operators, st.frozensets(values, min_size=1))


@given(keys, st.frozensets(values, min_size=1), labels)
def test_each_operator_has_its_opposite(
    key: str, some: frozenset[str], found: dict[str, str]
) -> None:
    """And `In` demands that the label is there, which `NotIn` does not."""

    def matches(operator: Operator) -> bool:
        return Requirement(key, operator, some).matches(found)

    assert matches("In") is not matches("NotIn")
    assert matches("Exists") is not matches("DoesNotExist")
    assert matches("Exists") or not matches("In")
    assert matches("NotIn") or not matches("DoesNotExist")


@given(labels, st.lists(requirements, max_size=4), labels)
def test_labels_and_expressions_are_demanded_together(
    demanded: dict[str, str], expressions: list[Requirement], found: dict[str, str]
) -> None:
    expected = all(found.get(key) == value for key, value in demanded.items()) and all(
        requirement.matches(found) for requirement in expressions
    )
    assert selector(demanded, tuple(expressions)).matches(found) is expected
    assert selector(demanded, tuple(reversed(expressions))) == selector(
        demanded, tuple(expressions)
    )
