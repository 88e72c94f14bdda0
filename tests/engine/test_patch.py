"""Changes become operations that apply, whatever the object has of their parents."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest

from batten_webhooks.patch import Operation, operations
from batten_webhooks.verdict import Change
from batten_webhooks.workload import Workload, read_objects


def pod(spec: Any, metadata: Any = None) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def patched(document: Any, *changes: Change) -> tuple[list[Operation], Any]:
    [(root, workload)] = read_objects(document)
    patch = operations(workload, changes, root)
    return patch, jsonpatch.apply_patch(document, patch)


@pytest.mark.parametrize(
    ("security", "first"),
    [
        ({}, "/spec/containers/0/securityContext"),
        ({"securityContext": None}, "/spec/containers/0/securityContext"),
        ({"securityContext": {}}, "/spec/containers/0/securityContext/capabilities"),
        (
            {"securityContext": {"capabilities": {}}},
            "/spec/containers/0/securityContext/capabilities/drop",
        ),
        (
            {"securityContext": {"capabilities": {"drop": []}}},
            "/spec/containers/0/securityContext/capabilities/drop/-",
        ),
    ],
)
def test_missing_parents_are_made_by_one_operation(security: Any, first: str) -> None:
    document = pod({"containers": [{"name": "app", **security}]})
    path = "/spec/containers/0/securityContext/capabilities/drop/-"
    patch, result = patched(document, Change(path, "ALL"), Change(path, "NET_RAW"))
    assert patch[0]["path"] == first
    capabilities = result["spec"]["containers"][0]["securityContext"]["capabilities"]
    assert capabilities == {"drop": ["ALL", "NET_RAW"]}


def test_what_goes_below_a_made_parent_goes_into_it() -> None:
    document = pod({"containers": [{"name": "app"}]})
    at = "/spec/containers/0/securityContext"
    patch, _ = patched(
        document,
        Change(f"{at}/seccompProfile/type", "RuntimeDefault"),
        Change(f"{at}/readOnlyRootFilesystem", True),
    )
    assert patch == [
        {
            "op": "add",
            "path": at,
            "value": {
                "seccompProfile": {"type": "RuntimeDefault"},
                "readOnlyRootFilesystem": True,
            },
        }
    ]


def test_keys_with_slashes_and_tildes() -> None:
    document = pod({"containers": [{"name": "app"}]})
    changes = Change("/metadata/annotations/a~1b~0c", "x"), Change("/metadata/annotations/d", "y")
    _, result = patched(document, *changes)
    assert result["metadata"] == {"annotations": {"a/b~c": "x", "d": "y"}}
    _, again = patched(result, Change("/metadata/annotations/a~1b~0c", "z", "replace"))
    assert again["metadata"] == {"annotations": {"a/b~c": "z", "d": "y"}}


def test_replace_and_remove() -> None:
    document = pod({"terminationGracePeriodSeconds": 30, "privileged": True, "containers": []})
    grace = Change("/spec/terminationGracePeriodSeconds", 60, "replace")
    _, result = patched(document, grace, Change("/spec/privileged", op="remove"))
    assert result["spec"] == {"terminationGracePeriodSeconds": 60, "containers": []}


def test_within_a_list_and_a_template() -> None:
    template = {"spec": {"containers": [{"name": "app"}]}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": template}}
    document = {"apiVersion": "v1", "kind": "List", "items": [{}, deployment]}
    patch, _ = patched(document, Change("/spec/volumes/-", {"name": "tmp"}))
    assert patch == [
        {
            "op": "add",
            "path": "/items/1/spec/template/spec/volumes",
            "value": [{"name": "tmp"}],
        }
    ]


def test_the_workload_is_left_as_it_was() -> None:
    document = pod({"containers": [{"name": "app"}]})
    [(_, workload)] = read_objects(document)
    assert isinstance(workload, Workload)
    operations(workload, [Change("/spec/containers/0/lifecycle/preStop", {})])
    assert workload.sites[0].container.lifecycle is None
