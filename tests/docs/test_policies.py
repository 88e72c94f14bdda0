"""docs/policies.md: its example does what the page says of it."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_command import batten
from batten_corpus import ROOT

from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import DENY, VERSIONS

PAGE = (ROOT / "docs" / "policies.md").read_text()
WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
        - name: web
          image: web:latest
"""


def example() -> str:
    found = re.search(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def web(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(example())
    (tmp_path / "web.yaml").write_text(WEB)
    return tmp_path


def levels(folder: Path, *arguments: str) -> dict[str, str]:
    ran = batten("check", "--format=json", *arguments, "web.yaml", cwd=folder)
    return {row["rule"]: row["level"] for row in json.loads(ran.out)["problems"]}


def hardened(folder: Path) -> Any:
    ran = batten("harden", "--policy=policy.yaml", "web.yaml", cwd=folder)
    assert ran.code == 0
    return yaml.safe_load(ran.out)["spec"]["template"]["spec"]


def test_options_of_rules_are_used(web: Path) -> None:
    spec = hardened(web)
    assert spec["terminationGracePeriodSeconds"] == 90
    assert spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == 20
    assert spec["volumes"][0]["emptyDir"]["sizeLimit"] == "256Mi"


def test_dry_run_changes_nothing_and_stays_a_violation(web: Path) -> None:
    security = hardened(web)["containers"][0]["securityContext"]
    assert "readOnlyRootFilesystem" not in security
    assert security["allowPrivilegeEscalation"] is False
    left = levels(web, "--policy=policy.yaml", "--as-admitted")
    assert left["read-only-root-filesystem"] == "warning"
    assert "error" not in left.values()


def test_no_actions_tell_nothing(web: Path) -> None:
    assert levels(web)["no-latest-tag"] == "error"
    assert "no-latest-tag" not in levels(web, "--policy=policy.yaml")


@pytest.mark.parametrize("name", ["Enabled", "DryRun", "Disabled"])
def test_mutation_as_a_default(name: str, web: Path) -> None:
    (web / "policy.yaml").write_text(
        example().replace("mutation: Enabled", f"mutation: {name}").replace("[Deny]", "[Audit]")
    )
    spec = hardened(web)
    assert ("securityContext" in spec) is (name == "Enabled")
    assert levels(web, "--policy=policy.yaml")["run-as-non-root"] == "note"


def test_the_page_knows_every_option_and_version() -> None:
    for rule in RULES:
        assert (f"rules/{rule.name}.md" in PAGE) is bool(fields(rule.parameters))
        assert (f"`{rule.name}`" in PAGE) is (rule.actions != DENY)
    first, last = VERSIONS[0], VERSIONS[-1]
    assert f"`v{first[0]}.{first[1]}` to `v{last[0]}.{last[1]}`" in PAGE
