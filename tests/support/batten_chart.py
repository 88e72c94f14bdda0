"""The Helm chart as the real helm renders it, and what kustomize makes of deploy/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from batten_e2e import Output, run
from batten_tools import helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "batten"
NAMESPACE = "batten-system"


@dataclass(frozen=True)
class Rendered:
    """The objects of one rendering."""

    text: str

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        return [value for value in yaml.safe_load_all(self.text) if value]

    def one(self, kind: str, *, controller: bool = False) -> dict[str, Any]:
        """The webhooks' one, or the controller's."""
        (found,) = (
            value
            for value in self.all(kind)
            if value["metadata"]["name"].endswith("-controller") == controller
        )
        return found

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [value for value in self.objects if value["kind"] == kind]

    def webhooks(self) -> dict[str, dict[str, Any]]:
        """Every webhook by its name."""
        return {
            webhook["name"]: webhook
            for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
            for webhook in self.one(kind)["webhooks"]
        }

    def environment(self, *, controller: bool = False) -> dict[str, str]:
        """The variables of the container that serves webhooks, or of the controller's."""
        deployment = self.one("Deployment", controller=controller)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return {variable["name"]: variable["value"] for variable in container["env"]}


def template(
    values: dict[str, Any] | None = None, *, release: str = "batten", namespace: str = NAMESPACE
) -> Output:
    """`helm template`, with nested values."""
    command = [helm(), "template", release, str(CHART), "--namespace", namespace, "--values", "-"]
    return run(*command, stdin=json.dumps(values or {}))


def render(**values: Any) -> Rendered:
    """With values such as `mode="enforce"`, or `webhook={"url": …}`."""
    return Rendered(template(values).require().stdout)


def without_definitions(rendered: Rendered) -> str:
    """Its manifests but for the definitions, which stay when a release goes."""
    return yaml.safe_dump_all(
        value for value in rendered.objects if value["kind"] != "CustomResourceDefinition"
    )


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """`("a", "b"), 1` → `{"a": {"b": 1}}`."""
    for name in reversed(path):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    both = {
        name: merged(left[name], right[name])
        for name in left.keys() & right.keys()
        if isinstance(left[name], dict) and isinstance(right[name], dict)
    }
    return {**left, **right, **both}


def without_helms_labels(values: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects by kind and name, without Helm's own labels and annotations, and without its test."""
    by_name = {}
    for value in values:
        metadata = value["metadata"]
        labels = {
            name: text
            for name, text in metadata["labels"].items()
            if name not in ("helm.sh/chart", "app.kubernetes.io/managed-by")
        }
        annotations = metadata.get("annotations") or {}
        if "helm.sh/hook" in annotations:
            continue
        others = {
            name: text for name, text in annotations.items() if not name.startswith("helm.sh/")
        }
        changed = {**value, "metadata": {**metadata, "labels": labels, "annotations": others}}
        by_name[value["kind"], metadata["name"]] = changed
    return by_name


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every value that the schema allows."""
    for name, declared in schema["properties"].items():
        if "properties" in declared:
            yield from leaves(declared, (*path, name))
        else:
            yield (*path, name)
