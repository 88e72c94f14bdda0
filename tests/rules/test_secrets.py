"""A secret that `no-literal-secrets` finds stands in no message, whatever its line is about."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from batten_command import batten_inside

from batten_webhooks.policy import PRESETS
from batten_webhooks.review import Webhook, respond, under
from batten_webhooks.verdict import Action

STYLES = {
    "block": """\
        - name: DB_PASSWORD
          value: ps7-Qx # the old one
        - name: URL
          value: 'postgres://u:ps7-Qx@db/x'
""",
    "flow": """\
        - {value: "ps7-Qx", name: DB_PASSWORD}
        - {"name": "API_KEY", "value": "ps7\\x2dQx"}
""",
    "folded": """\
        - name: TOKEN
          value: >-
            ps7-Qx
            ps7-Qx
""",
    "alias": """\
        - {name: HARMLESS, value: &secret ps7-Qx}
        - {name: TOKEN, value: *secret}
""",
}
HEAD = """\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
    - name: app
      image: app
      env:
"""
ACTIONS: list[Action] = ["Deny", "Warn", "Audit"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("format_", ["text", "json", "sarif", "junit", "github"])
def test_check(style: str, format_: str, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(HEAD + STYLES[style])
    _assert_unshown(tmp_path, "pod.yaml", format_)


@pytest.mark.parametrize("format_", ["text", "json", "sarif", "junit", "github"])
def test_check_of_all_in_one_line(format_: str, tmp_path: Path) -> None:
    (tmp_path / "pod.json").write_text(json.dumps(yaml.safe_load(HEAD + STYLES["block"])))
    _assert_unshown(tmp_path, "pod.json", format_)


def _assert_unshown(folder: Path, file: str, format_: str) -> None:
    ran = batten_inside("check", f"--format={format_}", "--verbose", file, cwd=folder)
    assert "no-literal-secrets" in ran.out
    assert "resources" in ran.out
    shown = ran.out + ran.err
    if format_ == "sarif":
        # A fix is the line that it writes, and whoever takes it has the file.
        log = json.loads(ran.out)
        for result in log["runs"][0]["results"]:
            result.pop("fixes", None)
        shown = json.dumps(log)
    assert "Qx" not in shown


@pytest.mark.parametrize("webhook", ["mutate", "validate"])
@pytest.mark.parametrize("action", ACTIONS)
def test_review(webhook: Webhook, action: Action) -> None:
    preset = PRESETS["hardened"]
    settings = tuple(replace(s, actions=frozenset((action,))) for s in preset.settings)
    request = {
        "uid": "7f0b7b1e-0000-4000-8000-000000000000",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "default",
        "userInfo": {"username": "tester"},
        "object": yaml.safe_load(HEAD + STYLES["block"]),
    }
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    answer = respond(webhook, json.dumps(body).encode(), under(replace(preset, settings=settings)))
    if webhook == "validate":
        assert b"DB_PASSWORD" in answer.body
    assert b"Qx" not in answer.body
