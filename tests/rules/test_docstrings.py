"""A rule's docstring is its specification, its page and its example."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from batten_scans import DAY, INDEX, evidence, scans

from batten_webhooks.image_facts import ImageFacts
from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import VERSIONS, Context, Facts, Rule
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import read_object

SECTIONS = ["What it does", "Why is this bad?", "Example", "Use instead", "References"]
# What the images of the examples say.
LABELS = {f"org.opencontainers.image.{name}": "x" for name in ("source", "revision")}
SAID = Facts(
    {
        "registry.example/db:16": ImageFacts(volumes=("/var/lib/db",)),
        "registry.example/web:1.4": ImageFacts(ports=("80/tcp",)),
        "registry.example/app:1.4-full": ImageFacts(size=900_000_000),
        "registry.example/app:1.4-slim": ImageFacts(size=90_000_000),
        "registry.example/app:1.4-s390x": ImageFacts(architectures=frozenset(("s390x",))),
        "registry.example/app:1.4": ImageFacts(architectures=frozenset(("amd64", "s390x"))),
        "registry.example/app:1.5": ImageFacts(labels=LABELS),
    },
    architectures=frozenset(("amd64", "arm64")),
    scans={
        "app:1.4.2": scans(),
        f"app:1.4.3@{INDEX}": scans(evidence(now=9 * DAY)),
    },
    now=9 * DAY,
)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


@each_rule
def test_sections(rule: Rule) -> None:
    first, blank, _ = rule.doc.split("\n", 2)
    assert re.fullmatch(r"[A-Z].*[^.]\.", first)
    assert blank == ""
    assert re.findall(r"^## (.+)$", rule.doc, re.MULTILINE) == SECTIONS
    references = _section(rule, "References").strip().splitlines()
    assert references
    assert all(line.startswith(("- ", "  ")) for line in references)
    assert "https://" in _section(rule, "References")


@each_rule
def test_example_breaks_the_rule(rule: Rule) -> None:
    assert _findings(rule, "Example")


@each_rule
def test_use_instead_does_not(rule: Rule) -> None:
    assert _findings(rule, "Use instead") == []


@each_rule
def test_name_is_the_modules(rule: Rule) -> None:
    assert rule.check.__module__.rpartition(".")[2].replace("_", "-") == rule.name
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)


def _section(rule: Rule, title: str) -> str:
    return rule.doc.partition(f"## {title}\n")[2].partition("\n## ")[0]


def _findings(rule: Rule, title: str) -> list[Finding]:
    [block] = re.findall(r"^```yaml\n(.*?)^```$", _section(rule, title), re.MULTILINE | re.DOTALL)
    workload = read_object(_object(yaml.safe_load(block)))
    assert workload is not None
    assert workload.sites
    context = Context(facts=SAID, version=VERSIONS[-1])
    found = rule.check(workload, rule.parameters(), context)
    return [finding for finding in found if isinstance(finding, Finding)]


def _object(example: dict[str, Any]) -> Any:
    """An example is an object, or the `metadata` and `spec` of a Pod, or its spec alone."""
    if "kind" in example:
        return example
    if "spec" not in example:
        example = {"spec": example}
    example["spec"].setdefault("containers", [{"name": "app", "image": "registry.example/app:1"}])
    return {"apiVersion": "v1", "kind": "Pod", **example}
