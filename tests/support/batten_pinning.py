"""Workloads of one image, and the digests that their revisions have."""

from __future__ import annotations

import json
from typing import Any

from batten_e2e import Namespace

from batten_webhooks.revision import PREFIX


def workload(kind: str, image: str, name: str = "web", **spec: Any) -> dict[str, Any]:
    template: dict[str, Any] = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "app", "image": image}]},
    }
    version = "batch/v1" if kind == "Job" else "apps/v1"
    found = {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
        return found | {"spec": {"template": template, **spec}}
    selector = {"matchLabels": {"app": name}}
    if kind == "StatefulSet":
        spec |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    return found | {"spec": {"selector": selector, "template": template, **spec}}


def images(namespace: Namespace, count: int = 1) -> set[str]:
    return {each["spec"]["containers"][0]["image"] for each in namespace.pods(count)}


def pins(value: dict[str, Any]) -> dict[str, dict[str, str]]:
    annotations = value["metadata"].get("annotations") or {}
    return {key: json.loads(text) for key, text in annotations.items() if key.startswith(PREFIX)}


def image_of(pod: dict[str, Any]) -> str:
    image: str = pod["spec"]["containers"][0]["image"]
    return image
