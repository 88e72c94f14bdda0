"""Whatever stands in an object, it is read or told of in printable words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.resources import Invalid, crds, read_exception, read_policy

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["Deny", "In", "Exists", "app", "\x1b[31m", "2028-01-01T00:00:00Z", "a/*"]),
)
READERS: dict[str, Callable[[Any], Any]] = {
    "hardeningpolicies.yaml": read_policy,
    "hardeningexceptions.yaml": read_exception,
}


def shaped(schema: Any) -> st.SearchStrategy[Any]:
    """Mostly as the schema says, with anything anywhere."""
    if schema.get("properties"):
        known = {name: shaped(each) for name, each in schema["properties"].items()}
        right: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional=known)
        right = st.one_of(right, st.dictionaries(st.one_of(st.text(max_size=4), LEAVES), LEAVES))
    elif "items" in schema:
        right = st.lists(shaped(schema["items"]), max_size=3)
    elif "additionalProperties" in schema:
        right = st.dictionaries(LEAVES, LEAVES, max_size=3)
    else:
        right = st.sampled_from(schema["enum"]) if "enum" in schema else LEAVES
    return st.one_of(right, LEAVES)


@pytest.mark.parametrize("file", READERS)
@given(st.data())
def test_it_is_read_or_refused(file: str, data: st.DataObject) -> None:
    crd = crds()[file]["spec"]
    schema = crd["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    value = {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": crd["names"]["kind"],
        "metadata": {"name": "a"},
        "spec": data.draw(shaped(schema)),
    }
    for field, message in wrong(READERS[file], value):
        assert field.isprintable()
        assert message.isprintable()


def wrong(read: Callable[[Any], Any], value: Any) -> list[tuple[str, str]]:
    try:
        read(value)
    except Invalid as error:
        return error.errors or [("", "\0")]
    return []
