"""Every value does something, is documented, and no other is taken."""

from __future__ import annotations

import json
import sys
import tomllib
from typing import Any

import pytest
import yaml
from batten_chart import CHART, ROOT, Rendered, leaves, merged, nested, template
from batten_e2e import run
from batten_tools import helm
from jsonschema import Draft7Validator

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
HELMS_OWN = ("global",)
VALUES = [path for path in leaves(SCHEMA) if path != HELMS_OWN]
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n"
# What has to be there for a value to count, by where it stands.
WITH: dict[tuple[str, ...], dict[str, Any]] = {
    ("autoscaling",): {"autoscaling": {"enabled": True}},
    ("networkPolicy",): {"networkPolicy": {"enabled": True}},
    ("monitoring", "serviceMonitor"): {"monitoring": {"serviceMonitor": {"enabled": True}}},
    ("monitoring", "prometheusRule"): {"monitoring": {"prometheusRule": {"enabled": True}}},
    ("monitoring", "dashboard"): {"monitoring": {"dashboard": {"enabled": True}}},
    ("certificate", "existingSecret"): {"certificate": {"caBundle": CERTIFICATE}},
    ("certificate", "caBundle"): {
        "certificate": {"existingSecret": "tls"},
        "webhook": {"annotations": {"a": "b"}},
    },
    ("certificate", "certManager", "issuer"): {
        "certificate": {"certManager": {"enabled": True, "issuer": {"name": "own"}}}
    },
}


def needed(path: tuple[str, ...]) -> dict[str, Any]:
    """What else to set, so that a value at this path counts."""
    found = [values for place, values in WITH.items() if path[: len(place)] == place]
    return found[0] if found and path[-1] != "enabled" else {}


def at(value: Any, path: tuple[str, ...], below: str = "") -> Any:
    for name in path:
        value = value[below][name] if below else value[name]
    return value


def test_helm_lint() -> None:
    linted = run(helm(), "lint", "--strict", str(CHART))
    assert linted.code == 0, linted.stdout + linted.stderr


def test_the_schema_is_one_and_has_the_values_of_the_chart() -> None:
    Draft7Validator.check_schema(SCHEMA)
    Draft7Validator(SCHEMA).validate(DEFAULTS)
    for path in VALUES:
        assert at(DEFAULTS, path) is not None, f"{'.'.join(path)} has no default"


@pytest.mark.parametrize("path", VALUES, ids=".".join)
def test_a_value_changes_what_is_rendered(path: tuple[str, ...], defaults: Rendered) -> None:
    example = at(SCHEMA, path, "properties")["examples"][0]
    assert example != at(DEFAULTS, path)
    others = needed(path)
    rendered = template(merged(others, nested(path, example))).require()
    without = template(others) if others else None
    # Some are refused alone.
    assert rendered.stdout != (without.stdout if without else defaults.text)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 3}, "additional properties 'replica' not allowed"),
        ({"webhook": {"caBundle": "e30="}}, "'caBundle' not allowed"),
        ({"webhook": {"timeoutSeconds": 11}}, "maximum"),
        ({"webhook": {"url": "http://127.0.0.1:9443"}}, "does not match pattern"),
        ({"webhook": {"customKinds": [{"resource": "widgets"}]}}, "missing properties"),
        ({"mode": "deny"}, "value must be one of"),
        ({"replicas": "two"}, "want integer"),
        ({"image": {"digest": "sha256:short"}}, "does not match pattern"),
        ({"images": {"cloudRegistries": ["docker.io"]}}, "does not match pattern"),
        ({"images": {"cloudRegistries": ["a.azurecr.io:443"]}}, "does not match pattern"),
        ({"fullnameOverride": "-"}, "does not match pattern"),
        ({"shutdown": {"drainSeconds": 55}}, "must be more than preStopSleepSeconds and"),
        ({"autoscaling": {"enabled": True, "maxReplicas": 1}}, "must be at least replicas"),
        ({"networkPolicy": {"apiServers": ["api.example"]}}, "does not match pattern"),
        ({"certificate": {"caBundle": "e30="}}, "does not match pattern"),
        ({"certificate": {"caBundle": CERTIFICATE}}, "goes with certificate.existingSecret or"),
        ({"certificate": {"existingSecret": "tls"}}, "needs certificate.caBundle, or"),
        (
            {"certificate": {"existingSecret": "tls", "certManager": {"enabled": True}}},
            "exclude each other",
        ),
        (
            {"webhook": {"url": "https://host"}, "certificate": {"certManager": {"enabled": True}}},
            "mounts no Secret: give it its certificate by --certificate-directory",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_value_is_refused(values: dict[str, Any], complaint: str) -> None:
    refused = template(values)
    assert refused.code
    assert complaint in refused.stderr


def test_what_is_written_from_the_chart_is_up_to_date() -> None:
    checked = run(sys.executable, str(ROOT / "deploy" / "generate.py"), "--check")
    assert checked.code == 0, checked.stdout + checked.stderr


def test_every_value_is_described_in_the_readme() -> None:
    rows = (CHART / "README.md").read_text().splitlines()
    for path in VALUES:
        (row,) = [text for text in rows if text.startswith(f"| `{'.'.join(path)}` |")]
        assert row.endswith(". |")


def test_the_chart_installs_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]
    assert chart["annotations"]["artifacthub.io/license"] == project["license"]
