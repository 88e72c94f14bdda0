"""Alerts and dashboard: of metrics that there are, and Prometheus understands them as they are
meant."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_chart import render
from batten_e2e import run
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from batten_operator.metrics import Metrics
from batten_operator.running_scans import STANDINGS
from batten_operator.server import _REASONS
from batten_webhooks.audit import OUTCOMES

PROMTOOL = shutil.which("promtool")
MINUTE, DAY = 60, 86400
FAILS_OPEN = "apiserver_admission_webhook_fail_open_count"
# Of others: what API servers tell of webhooks, see test_applied.py.
THEIRS = {FAILS_OPEN: {"name", "type"}}
# What Prometheus puts to each series.
SCRAPED = {"instance"}
SUFFIXES = {
    "counter": ["_total"],
    "histogram": ["_bucket", "_count", "_sum"],
    "info": ["_info"],
}
_SELECTED = re.compile(r"\b((?:batten|apiserver)_[a-z_]+)(?:\{([^}]*)\})?")
_MATCHED = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\b(?:by|on) \(([^)]*)\)")


def registered() -> dict[str, set[str]]:
    """Each series' labels by its name."""
    registry = CollectorRegistry()
    Metrics(registry, ())
    return {
        f"{metric._name}{suffix}": {*metric._labelnames, *(["le"] if suffix == "_bucket" else [])}
        for metric in registry._collector_to_names
        if isinstance(metric, MetricWrapperBase)
        for suffix in SUFFIXES.get(str(metric._type), [""])
    }


def rules() -> list[dict[str, Any]]:
    spec = render(monitoring={"prometheusRule": {"enabled": True}}).one("PrometheusRule")["spec"]
    (group,) = spec["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    data = render(monitoring={"dashboard": {"enabled": True}}).one("ConfigMap")["data"]
    found: dict[str, Any] = json.loads(data["batten.json"])
    return found


def expressions() -> Iterator[tuple[str, str, str]]:
    """Whose it is, the expression, and the text that names its labels."""
    for rule in rules():
        texts = " ".join(rule["annotations"].values())
        yield rule["alert"], rule["expr"], " ".join(re.findall(r"\$labels\.(\w+)", texts))
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            legend = " ".join(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            yield panel["title"], target["expr"], legend


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("name", "expression", "told"), EXPRESSIONS)
def test_only_what_is_measured_is_asked_for(name: str, expression: str, told: str) -> None:
    known = registered() | THEIRS
    possible = set(SCRAPED)
    selected = _SELECTED.findall(expression)
    assert selected
    for metric, matchers in selected:
        assert metric in known, f"{name}: nothing is called {metric}"
        possible |= known[metric]
        for label, operator, value in _MATCHED.findall(matchers):
            assert label in known[metric], f"{name}: {metric} has no label {label}"
            if metric not in THEIRS:
                assert set(value.split("|") if "~" in operator else [value]) <= VALUES[label]
    grouped = {
        label.strip() for labels in _GROUPED.findall(expression) for label in labels.split(",")
    }
    assert grouped <= possible, f"{name}: no label {grouped - possible}"
    assert set(told.split()) <= possible


VALUES: dict[str, set[str]] = {
    "decision": {"allowed", "denied"},
    "reason": {*_REASONS.values()},
    "scan": {*STANDINGS},
    "outcome": {*OUTCOMES},
}


def test_every_metric_is_seen_somewhere() -> None:
    """What nobody looks at need not be measured."""
    seen = {metric for _, text, _ in EXPRESSIONS for metric, _ in _SELECTED.findall(text)}
    beside = {f"batten_admission_review_duration_seconds_{part}" for part in ("count", "sum")}
    assert registered().keys() - seen == {"batten_build_info", *beside}


def test_every_alert_says_what_it_means() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert all(text.rstrip().endswith(".") for text in rule["annotations"].values())


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [("90d", 18 * DAY), ("24h", 17280), ("1.5d", 25920), ("90m", 1080)]
)
def test_the_certificate_is_late_after_four_fifths_of_its_lifetime(
    lifetime: str, seconds: int
) -> None:
    values = {
        "monitoring": {"prometheusRule": {"enabled": True}},
        "certificate": {"lifetime": lifetime},
    }
    groups = render(**values).one("PrometheusRule")["spec"]["groups"]
    (expression,) = (
        rule["expr"] for rule in groups[0]["rules"] if rule["alert"] == "BattenCertificate"
    )
    assert expression.endswith(f"< {seconds}")


# --- what Prometheus makes of them --------------------------------------------------------------

FAILED = f'{FAILS_OPEN}{{name="mutate.batten.dev",type="admit"}}'
SERVING = 'batten_certificate_expiry_timestamp_seconds{instance="webhook"}'
ERRORS = 'batten_admission_errors_total{reason="%s"}'
REVIEWS = 'batten_admission_reviews_total{kind="Pod",decision="%s"}'
BUCKET = 'batten_admission_review_duration_seconds_bucket{webhook="mutate",le="%s"}'
AUDITED = 'batten_audit_timestamp_seconds{instance="%s"}'
MISSING = 'batten_running_images{scan="missing",instance="%s"}'
LEADING = {AUDITED % "old": "60x120", AUDITED % "new": "0+60x120"}
HEALTHY = {
    SERVING: f"{90 * DAY}x120",
    FAILED: "3x120",
    ERRORS % "internal": "4x120",
    ERRORS % "unknown_path": "0+9x120",
    REVIEWS % "allowed": "0+60x120",
    REVIEWS % "denied": "0+6x120",
    BUCKET % "0.01": "0+95x120",
    BUCKET % "0.5": "0+100x120",
    BUCKET % "5.0": "0+100x120",
    BUCKET % "+Inf": "0+100x120",
    **LEADING,
    MISSING % "old": "7x120",
    MISSING % "new": "0x120",
}
FIRING: list[tuple[str, str, dict[str, str]]] = [
    ("BattenAway", "nobody tells of a certificate", {SERVING: "_x120"}),
    ("BattenAway", "there is a controller alone", {SERVING: "0x120"}),
    ("BattenFailsOpen", "once more", {FAILED: "3x88 4x32"}),
    ("BattenFailsOpen", "for the first time", {FAILED: "_x88 1x32"}),
    ("BattenErrors", "defects", {ERRORS % "internal": "0+1x120"}),
    ("BattenErrors", "the first one", {ERRORS % "internal": "0x84 1x36"}),
    ("BattenSlow", "registries", {BUCKET % "0.5": "0+96x120"}),
    ("BattenRefusals", "a rollout", {REVIEWS % "denied": "0x60 0+60x60"}),
    ("BattenCertificate", "it ends", {SERVING: f"{10 * DAY}x120"}),
    ("BattenEvidence", "not scanned", {MISSING % "new": "2x120"}),
    ("BattenAudit", "nobody leads", {AUDITED % "new": "90x120"}),
    ("BattenAudit", "nobody ever led", {AUDITED % "new": "0x120", AUDITED % "old": "_x120"}),
]


def promtool(folder: Path, *arguments: str, **files: Any) -> None:
    if PROMTOOL is None:
        pytest.skip("promtool is not there (Debian: prometheus)")
    for name, value in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(value))
    done = run("env", "-C", str(folder), PROMTOOL, *arguments)
    assert done.code == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    groups = [{"name": "batten", "rules": rules()}]
    promtool(tmp_path, "check", "rules", "--lint-fatal", "rules.yaml", rules={"groups": groups})


def test_every_alert_is_tried() -> None:
    assert {alert for alert, _, _ in FIRING} == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize(
    ("alert", "changed"),
    [("", {}), *((alert, changed) for alert, _, changed in FIRING)],
    ids=["healthy", *(f"{alert}: {why}" for alert, why, _ in FIRING)],
)
def test_who_is_alerted_when(tmp_path: Path, alert: str, changed: dict[str, str]) -> None:
    """Of what is told for one and a half hours nothing else fires than what is meant to."""
    values = HEALTHY | changed
    series = [{"series": name, "values": text} for name, text in values.items()]
    fires = "count by (alertname) (count by (alertname, instance) "
    fires += '(ALERTS{alertstate="firing"}))'
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": fires, "eval_time": "92m", "exp_samples": samples}],
    }
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    groups = [{"name": "batten", "rules": rules()}]
    promtool(tmp_path, "test", "rules", "tests.yaml", rules={"groups": groups}, tests=tests)
