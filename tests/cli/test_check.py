"""`batten check`: places, formats and exit codes, through the real command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from batten_command import batten, batten_inside
from batten_corpus import ROOT
from batten_schemas import published_schema

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector:
    matchLabels: {app: web}
  template:
    spec:
      containers:
        - name: app
          image: registry.example/web:1.4   # built in CI
          securityContext:
            runAsUser: 0
"""
TEXT = """\
error[run-as-non-root] Deployment "web": container "app": runAsUser is 0, which is root
14 |             runAsUser: 0
   |             ^^^^^^^^^^^^
   = field: spec.template.spec.containers[0].securityContext.runAsUser
   = help: set a non-zero uid
"""


@pytest.fixture
def web(tmp_path: Path) -> Path:
    (tmp_path / "web.yaml").write_text(WEB)
    return tmp_path


def test_text_shows_the_place_the_line_and_the_way_out(web: Path) -> None:
    ran = batten("check", "web.yaml", cwd=web)
    assert f"web.yaml:14:13: {TEXT}" in ran.out
    assert ran.code == 1
    assert "1 workload in 1 file" in ran.err


def test_as_admitted_leaves_only_what_no_change_takes_away(web: Path) -> None:
    ran = batten("check", "--as-admitted", "--format=json", "web.yaml", cwd=web)
    problems = json.loads(ran.out)["problems"]
    assert [p["rule"] for p in problems if p["level"] == "error"] == ["run-as-non-root"]
    assert ran.code == 1


def test_hardened_files_are_clean_as_they_stand(web: Path) -> None:
    (web / "web.yaml").write_text(WEB.replace("runAsUser: 0", "runAsUser: 1000"))
    assert batten("check", "web.yaml", cwd=web).code == 1
    assert batten("harden", "--write", "web.yaml", cwd=web).code == 0
    assert batten("check", "web.yaml", cwd=web).code == 0


def test_json_is_as_its_schema_says(web: Path) -> None:
    (web / "broken.yaml").write_text("a: [")
    (web / "compose.yaml").write_text("services: {}\n")
    schema = json.loads((ROOT / "docs" / "schemas" / "check.v1.json").read_text())
    ran = batten("check", "--format=json", ".", cwd=web)
    value = json.loads(ran.out)
    jsonschema.validate(value, schema)
    assert ran.code == 2
    assert [row["file"] for row in value["unusable"]] == ["broken.yaml"]
    assert [row["file"] for row in value["skipped"]] == ["compose.yaml"]


SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def test_sarif_is_as_its_standard_says(web: Path) -> None:
    (web / "broken.yaml").write_text("a: [")
    (web / "a b#c.yaml").write_text(WEB)
    ran = batten("check", "--format=sarif", "web.yaml", "a b#c.yaml", "broken.yaml", cwd=web)
    log = json.loads(ran.out)
    jsonschema.validate(log, published_schema(SARIF))
    run = log["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        rule = rules[result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert "## Why is this bad?" in rule["help"]["markdown"]
        assert rule["helpUri"].endswith(f"/docs/rules/{rule['id']}.md")
        assert (ROOT / "docs" / "rules" / f"{rule['id']}.md").is_file()
    uris = {
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in run["results"]
    }
    assert uris == {"web.yaml", "a%20b%23c.yaml"}
    assert not run["invocations"][0]["executionSuccessful"]
    assert ran.code == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_each_fix_of_sarif_mends_its_violation(encoding: str, end: str, tmp_path: Path) -> None:
    text = WEB.replace("\n", end) if end else WEB.removesuffix("\n")
    path = tmp_path / "web.yaml"
    path.write_bytes(text.encode(encoding))
    log = json.loads(batten_inside("check", "--format=sarif", "web.yaml", cwd=tmp_path).out)
    fixed = [result for result in log["runs"][0]["results"] if "fixes" in result]
    assert len(fixed) > 5
    for result in fixed:
        (change,) = result["fixes"][0]["artifactChanges"]
        path.write_bytes(_replaced(text, change["replacements"]).encode(encoding))
        left = json.loads(batten_inside("check", "--format=json", "web.yaml", cwd=tmp_path).out)
        assert _key(result) not in {(p["rule"], p["field"]) for p in left["problems"]}


def _key(result: dict[str, Any]) -> tuple[str, str]:
    return result["ruleId"], result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]


def _replaced(text: str, replacements: list[dict[str, Any]]) -> str:
    """SARIF 2.1.0, section 3.57: the regions are those of the file before any replacement."""
    starts = [0, *(index + 1 for index, character in enumerate(text) if character == "\n")]
    for replacement in reversed(replacements):
        region = replacement["deletedRegion"]
        start = starts[region["startLine"] - 1] + region["startColumn"] - 1
        end = starts[region["endLine"] - 1] + region["endColumn"] - 1
        text = text[:start] + replacement["insertedContent"]["text"] + text[end:]
    return text


def test_junit(web: Path) -> None:
    (web / "ok.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
    (web / "broken.yaml").write_text("a: [\x85")
    ran = batten("check", "--format=junit", "web.yaml", "ok.yaml", "broken.yaml", cwd=web)
    root = ET.fromstring(ran.out.strip())  # noqa: S314
    failures = root.findall("./testsuite[@name='web.yaml']/testcase/failure")
    assert len(failures) == int(root.attrib["failures"]) > 0
    assert root.findall("./testsuite[@name='ok.yaml']/testcase[@name='no violations']")
    assert root.findall("./testsuite[@name='broken.yaml']/testcase/error")
    assert root.attrib["errors"] == "1"
    assert int(root.attrib["tests"]) == len(root.findall(".//testcase"))
    clean = batten("check", "--format=junit", "--policy=baseline", "web.yaml", cwd=web)
    assert ET.fromstring(clean.out.strip()).attrib["failures"] == "0"  # noqa: S314


def test_a_long_line_is_shown_around_its_place(tmp_path: Path) -> None:
    labels = {f"label-{number}": "x" * 50 for number in range(2000)}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "labels": labels},
        "spec": {"hostPID": True, "containers": [{"name": "a", "image": "a:1"}]},
    }
    (tmp_path / "pod.json").write_text(json.dumps(pod))
    ran = batten("check", "--policy=baseline", "pod.json", cwd=tmp_path)
    source, marks = ran.out.splitlines()[1:3]
    assert len(source) < 220
    assert source[marks.index("^") : marks.rindex("^") + 1] == '"hostPID": true'


def test_github_escapes_what_workflow_commands_would_read(web: Path) -> None:
    (web / "a,b:c%.yaml").write_text(WEB)
    ran = batten("check", "--format=github", "a,b:c%.yaml", cwd=web)
    assert ran.out.startswith("::error file=a%2Cb%3Ac%25.yaml,line=")
    assert all(line.startswith("::") for line in ran.out.splitlines())


def test_standard_input(web: Path) -> None:
    ran = batten("check", "-", stdin=WEB.encode(), cwd=web)
    assert "<stdin>:14:13: error[run-as-non-root]" in ran.out


@pytest.mark.parametrize("policy", ["baseline", "restricted", "hardened"])
def test_presets(policy: str, web: Path) -> None:
    ran = batten("check", "--as-admitted", f"--policy={policy}", "web.yaml", cwd=web)
    assert ran.code == (0 if policy == "baseline" else 1)


def test_custom_kinds(tmp_path: Path) -> None:
    (tmp_path / "widget.yaml").write_text(
        "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n"
        "spec: {pod: {spec: {hostPID: true, containers: [{name: a, image: 'a:1'}]}}}\n"
    )
    assert batten("check", "widget.yaml", cwd=tmp_path).code == 0
    ran = batten("check", "--kinds=Widget.example.com=spec.pod", "widget.yaml", cwd=tmp_path)
    assert 'Widget "w": hostPID shares the node' in ran.out
    assert batten("check", "--kinds=Widget", "widget.yaml", cwd=tmp_path).code == 2


@pytest.mark.parametrize("kind", ["text", "json", "sarif", "junit", "github"])
def test_secrets_are_not_repeated(kind: str, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, "
        "image: 'a:1', env: [{name: DB_PASSWORD, value: correct-horse}]}]}\n"
    )
    ran = batten_inside("check", f"--format={kind}", "pod.yaml", cwd=tmp_path)
    assert "no-literal-secrets" in ran.out
    assert "correct-horse" not in ran.out + ran.err
