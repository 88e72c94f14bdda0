"""Gatekeeper's mutators: one object for each field, one more where init containers have it too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
TEMPLATE = Path(__file__).parent / "policies" / "gatekeeper.yaml"
PODS = [{"groups": [""], "kinds": ["Pod"], "versions": ["v1"]}]
KINDS = [{"apiGroups": [""], "kinds": ["Pod"]}]
POD_FIELDS = {
    "run-as-non-root": ("spec.securityContext.runAsNonRoot", True),
    "seccomp": ("spec.securityContext.seccompProfile", {"type": "RuntimeDefault"}),
    "tmp-volume": ('spec.volumes[name: "hardened-tmp"].emptyDir', {}),
}
CONTAINER_FIELDS = {
    "read-only": ("securityContext.readOnlyRootFilesystem", True),
    "no-escalation": ("securityContext.allowPrivilegeEscalation", False),
    "tmp-mount": ('volumeMounts[mountPath: "/tmp"].name', "hardened-tmp"),
}


def template() -> Object:
    found: Object = yaml.safe_load(TEMPLATE.read_text())
    return found


def constraint(suffix: str, match: Object) -> Object:
    return {
        "apiVersion": "constraints.gatekeeper.sh/v1beta1",
        "kind": "BenchHardened",
        "metadata": {"name": f"hardened{suffix}"},
        "spec": {"match": {"kinds": KINDS, **match}},
    }


def mutators(suffix: str, match: Object) -> Iterator[Object]:
    """`match` says where besides they hold."""
    for name, (location, value) in POD_FIELDS.items():
        yield _assign(f"{name}{suffix}", location, value, match, keep=True)
    # What is there already cannot be compared: who said more gets less.
    grace = "spec.terminationGracePeriodSeconds"
    yield _assign(f"grace{suffix}", grace, 60, match, keep=False)
    for field, short in (("containers", ""), ("initContainers", "-init")):
        for name, (location, value) in CONTAINER_FIELDS.items():
            path = f"spec.{field}[name: *].{location}"
            yield _assign(f"{name}{short}{suffix}", path, value, match, keep=True)
        yield _drop(f"drop{short}{suffix}", field, match)


def _assign(name: str, location: str, value: Any, match: Object, *, keep: bool) -> Object:
    parameters: Object = {"assign": {"value": value}}
    if keep:
        parameters["pathTests"] = [{"subPath": location, "condition": "MustNotExist"}]
    return _mutator("Assign", name, location, parameters, match)


def _drop(name: str, field: str, match: Object) -> Object:
    location = f"spec.{field}[name: *].securityContext.capabilities.drop"
    parameters = {"operation": "merge", "values": {"fromList": ["ALL"]}}
    return _mutator("ModifySet", name, location, parameters, match)


def _mutator(kind: str, name: str, location: str, parameters: Object, match: Object) -> Object:
    return {
        "apiVersion": "mutations.gatekeeper.sh/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "applyTo": PODS,
            "match": {"scope": "Namespaced", "kinds": KINDS, **match},
            "location": location,
            "parameters": parameters,
        },
    }
