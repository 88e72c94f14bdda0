"""The kind of reports that the controller writes, where nobody has installed it."""

from __future__ import annotations

import yaml

REPORTS = "reports.openreports.io"


def reports_definition() -> str:
    """Stands for the definition that OpenReports publishes: the fields that are written, as it
    types them; what it does not name would be dropped."""
    text, number = {"type": "string"}, {"type": "integer"}
    reference = {
        "type": "object",
        "properties": dict.fromkeys(("apiVersion", "kind", "name", "namespace", "uid"), text),
    }
    result = {
        "type": "object",
        "required": ["policy"],
        "properties": {
            **dict.fromkeys(("source", "policy", "rule", "message"), text),
            "result": {"type": "string", "enum": ["pass", "fail", "warn", "error", "skip"]},
            "scored": {"type": "boolean"},
            "properties": {"type": "object", "additionalProperties": text},
        },
    }
    summary = dict.fromkeys(("pass", "fail", "warn", "error", "skip"), number)
    schema = {
        "type": "object",
        "properties": {
            "scope": reference,
            "summary": {"type": "object", "properties": summary},
            "results": {"type": "array", "items": result},
        },
    }
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    return yaml.safe_dump(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": REPORTS},
            "spec": {
                "group": "openreports.io",
                "scope": "Namespaced",
                "names": {"kind": "Report", "plural": "reports", "singular": "report"},
                "versions": [version],
            },
        }
    )
