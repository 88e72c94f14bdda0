"""What the definitions of an earlier release took, ours take, too (docs/adr/0008)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_chart import render
from batten_e2e import run
from batten_tools import helm

RELEASES = sorted((Path(__file__).parent / "earlier").iterdir())
LOWER = ("minimum", "minLength", "minItems")
UPPER = ("maximum", "maxLength", "maxItems", "maxProperties")
Schema = dict[str, Any]


def definitions(manifests: str) -> dict[str, Schema]:
    """The definitions' schemas by name and version."""
    return {
        f"{each['metadata']['name']}/{version['name']}": version["schema"]["openAPIV3Schema"]
        for each in yaml.safe_load_all(manifests)
        if each and each["kind"] == "CustomResourceDefinition"
        for version in each["spec"]["versions"]
    }


def narrowed(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """Where something that passed the old schema may not pass the new one."""
    if old.get("type") != new.get("type"):
        yield f"{path}: another type"
    if new.get("pattern", old.get("pattern")) != old.get("pattern"):
        yield f"{path}: another pattern"
    if old.get("nullable") and not new.get("nullable"):
        yield f"{path}: no more null"
    yield from _fewer_values(old, new, path)
    yield from _tighter_bounds(old, new, path)
    for rule in _rules(new) - _rules(old):
        yield f"{path}: {rule}"
    for name in set(new.get("required", ())) - set(old.get("required", ())):
        yield f"{path}.{name}: required"
    yield from _below(old, new, path)


def _fewer_values(old: Schema, new: Schema, path: str) -> Iterator[str]:
    if "enum" in new and "enum" not in old:
        yield f"{path}: an enum where there was none"
    values: list[str] = old.get("enum", [])
    for value in set(values) - set(new.get("enum", values)):
        yield f"{path}: no more {value}"


def _tighter_bounds(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for bound in LOWER:
        if bound in new and new[bound] > old.get(bound, float("-inf")):
            yield f"{path}: {bound} {new[bound]}"
    for bound in UPPER:
        if bound in new and new[bound] < old.get(bound, float("inf")):
            yield f"{path}: {bound} {new[bound]}"


def _rules(schema: Schema) -> set[str]:
    return {each["rule"] for each in schema.get("x-kubernetes-validations", ())}


def _below(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for name, below in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{path}.{name}: gone"
        else:
            yield from narrowed(below, new["properties"][name], f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(old.get(name), dict):
            yield from narrowed(old[name], new.get(name, {}), f"{path}[]")


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_nothing_is_taken_back(release: Path) -> None:
    (chart,) = release.glob("*.tgz")
    old = definitions(run(helm(), "template", "batten", str(chart)).require().stdout)
    new = definitions(render().text)
    assert old
    assert old.keys() <= new.keys()
    assert [each for name in old for each in narrowed(old[name], new[name], name)] == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"type": "string"}, {"type": "integer"}, "x: another type"),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, "x: no more b"),
        ({}, {"enum": ["a"]}, "x: an enum where there was none"),
        ({}, {"required": ["a"]}, "x.a: required"),
        ({"maxLength": 5}, {"maxLength": 4}, "x: maxLength 4"),
        ({}, {"minItems": 1}, "x: minItems 1"),
        ({}, {"pattern": "a"}, "x: another pattern"),
        ({"nullable": True}, {}, "x: no more null"),
        ({"properties": {"a": {}}}, {"properties": {}}, "x.a: gone"),
        ({"items": {"maximum": 2}}, {"items": {"maximum": 1}}, "x[]: maximum 1"),
        ({}, {"x-kubernetes-validations": [{"rule": "self.a"}]}, "x: self.a"),
    ],
)
def test_what_is_narrower_is_found(old: Schema, new: Schema, told: str) -> None:
    assert list(narrowed(old, new, "x")) == [told]
    assert list(narrowed(old, old, "x")) == []
