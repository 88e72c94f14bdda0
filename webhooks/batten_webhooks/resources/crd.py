"""The CustomResourceDefinitions, made from the models.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from batten_webhooks.resources.exception import ExceptionStatus, HardeningException
from batten_webhooks.resources.image_scan import ImageScan, ImageScanStatus
from batten_webhooks.resources.model import GROUP, VERSION
from batten_webhooks.resources.policy import HardeningPolicy, PolicyStatus
from batten_webhooks.resources.profile import ImageProfile

Json = dict[str, Any]
_KEPT = frozenset(
    (
        *("type", "description", "enum", "format", "pattern", "items", "properties", "required"),
        *("maximum", "minimum", "maxLength", "minLength", "maxItems", "minItems", "maxProperties"),
    )
)
# CEL, by the name of the model: what a schema cannot say, refused even while the webhook is away.
VALIDATIONS: dict[str, list[Json]] = {
    "Match": [
        {
            "rule": "!has(self.podSelector) || has(self.namespaceSelector)",
            "message": "podSelector needs a namespaceSelector: labels of Pods are their authors'"
            " own",
        }
    ],
    "Expression": [
        {
            "rule": "(self.operator in ['In', 'NotIn'])"
            " == (has(self.values) && size(self.values) > 0)",
            "message": "In and NotIn need values, Exists and DoesNotExist take none",
        }
    ],
}
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_ACCEPTED = {
    "name": "Accepted",
    "type": "string",
    "description": "Whether it is in force.",
    "jsonPath": '.status.conditions[?(@.type=="Accepted")].status',
}


def crds() -> dict[str, Json]:
    """Manifests by file name."""
    made = {
        "hardeningpolicies.yaml": _crd(
            HardeningPolicy,
            PolicyStatus,
            "hardeningpolicies",
            [
                _column("Priority", "integer", ".spec.priority"),
                _ACCEPTED,
                _column("Governed", "integer", ".status.workloads.governed"),
                _column("Changed", "integer", ".status.workloads.changed"),
                _column("Refused", "integer", ".status.workloads.refused"),
                _AGE,
            ],
        ),
        "hardeningexceptions.yaml": _crd(
            HardeningException,
            ExceptionStatus,
            "hardeningexceptions",
            [
                _column("Rules", "string", ".spec.rules"),
                _column("Namespaces", "string", ".spec.match.namespaces"),
                _column("Expires", "string", ".spec.expires"),
                _ACCEPTED,
                {**_column("Reason", "string", ".spec.reason"), "priority": 1},
                _AGE,
            ],
        ),
        "imagescans.yaml": _crd(
            ImageScan,
            ImageScanStatus,
            "imagescans",
            [
                _column("Image", "string", ".spec.image"),
                _column("Platform", "string", ".spec.platform"),
                _column("Scanner", "string", ".spec.scanner.name"),
                _column("Scanned", "date", ".spec.scannedAt"),
                _column("Phase", "string", ".status.phase"),
                _AGE,
            ],
        ),
        "imageprofiles.yaml": _crd(
            ImageProfile,
            None,
            "imageprofiles",
            [
                _column("Images", "string", ".spec.images"),
                _column("User", "integer", ".spec.runAsUser"),
                _column("Group", "integer", ".spec.runAsGroup"),
                _AGE,
            ],
        ),
    }
    found: dict[str, Json] = json.loads(json.dumps(made))  # nothing in it is shared
    return found


def _column(name: str, kind: str, path: str) -> Json:
    return {"name": name, "type": kind, "jsonPath": path}


def _crd(
    model: type[BaseModel], status: type[BaseModel] | None, plural: str, columns: list[Json]
) -> Json:
    kind = model.__name__
    spec = model.model_json_schema(by_alias=True)
    spec_schema = _structural(spec["properties"]["spec"], spec["$defs"], kept=True)
    schema: Json = {
        "type": "object",
        "description": _words(model.__doc__),
        "required": [name for name in spec["required"] if name == "spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind}."},
            "metadata": {"type": "object"},
            "spec": spec_schema,
        },
    }
    version: Json = {"name": VERSION, "served": True, "storage": True}
    if status is not None:
        found = status.model_json_schema(by_alias=True)
        schema["properties"]["status"] = _structural(found, found.get("$defs", {}), kept=False)
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "categories": ["batten"],
            },
            "versions": [
                {
                    **version,
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _structural(schema: Json, defs: Json, *, kept: bool) -> Json:
    """Of pydantic's JSON schema what a structural schema may say, with nothing behind references.

    Unknown fields are `kept`, so that they reach the webhook, which tells of them: the API server
    would drop them without a word.
    """
    merged, name = _resolved(schema, defs)
    result = {key: value for key, value in merged.items() if key in _KEPT}
    if "description" in result:
        result["description"] = _words(result["description"])
    if "maxItems" not in merged and merged.get("type") == "array" and kept:
        result["maxItems"] = 100
    if merged.get("nullable"):
        result["nullable"] = True
    if "items" in result:
        result["items"] = _structural(result["items"], defs, kept=kept)
    if "properties" in result:
        result["properties"] = {
            key: _structural(value, defs, kept=kept) for key, value in result["properties"].items()
        }
        if kept:
            result["x-kubernetes-preserve-unknown-fields"] = True
    elif isinstance(merged.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(
            merged["additionalProperties"], defs, kept=kept
        )
    if name in VALIDATIONS:
        result["x-kubernetes-validations"] = VALIDATIONS[name]
    if "type" in result.get("items", {}).get("required", ()):  # conditions: one of each type
        result |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return result


def _resolved(schema: Json, defs: Json) -> tuple[Json, str]:
    """The schema with what it refers to, and the name of that; `X | None` is a nullable X."""
    name = ""
    merged = dict(schema)
    options = [each for each in merged.pop("anyOf", ()) if each != {"type": "null"}]
    if options:
        merged = {**options[0], **merged, "nullable": True}
    reference = merged.pop("$ref", "")
    if reference:
        name = reference.rpartition("/")[2]
        merged = {**defs[name], **merged}
    return merged, name


def _words(text: str | None) -> str:
    return " ".join((text or "").split())
