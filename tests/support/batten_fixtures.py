"""A rule's fixtures: manifests with a head of comments that says how they are to be judged.

# violates: [spec.containers[0].image]     field paths of every violation, in order
# version: 1.34                            of the Pod Security Standards; else the newest
# images: {"nginx:1.27": {user: ""}}       what images say; of others nothing is known
# architectures: [amd64]                   of the nodes
# digests: {"nginx:1.27": "sha256:…"}      what tags mean; nobody has asked for others
# missing: {"nginx:1.28": "why"}           what was asked for in vain
# scans: {"nginx@sha256:…": [CVE-2026-1]}  what a day-old scan found; null: there is none
# parameters: {size_limit: 64Mi}           of the rule; else its defaults
# ephemeral: debugger                      only this new ephemeral container is to be judged
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch
import msgspec
import yaml
from batten_scans import evidence, scans, vulnerability
from pydantic.alias_generators import to_camel

from batten_webhooks.cli import check
from batten_webhooks.cli.__main__ import parser
from batten_webhooks.engine import evaluate
from batten_webhooks.evidence.scans import Scans
from batten_webhooks.image_facts import ImageFacts, Profile
from batten_webhooks.patch import operations
from batten_webhooks.policy import Policy, Setting
from batten_webhooks.review import Webhook, respond, under
from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import VERSIONS, Facts, Missing, Rule, Version
from batten_webhooks.verdict import Verdict, Violation, field_path
from batten_webhooks.workload import (
    PodTemplate,
    Workload,
    ephemeral_workload,
    group_of,
    read_objects,
)

FACTS = {"images", "architectures", "digests", "missing", "scans"}
NOW = 1_800_000_000.0  # in January 2027
HEADERS = {"violates", "version", "parameters", "ephemeral", *FACTS}


@dataclass(frozen=True)
class Fixture:
    path: Path
    violates: list[str]
    version: Version = VERSIONS[-1]
    facts: Facts = field(default_factory=lambda: Facts(now=NOW))
    parameters: dict[str, Any] = field(default_factory=dict)
    ephemeral: str = ""

    def documents(self) -> list[Any]:
        return [doc for doc in yaml.safe_load_all(self.path.read_text()) if doc is not None]


def read_fixture(path: Path) -> Fixture:
    head: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            break
        key, colon, value = line[2:].partition(": ")
        assert colon, f"{path}: {line}: expected a name and a value"
        assert key in HEADERS, f"{path}: {key}: not one of {sorted(HEADERS)}"
        # Field paths hold brackets, so the list is split by hand.
        head[key] = value if key in ("violates", "version") else yaml.safe_load(value)
    paths = head.get("violates", "").removeprefix("[").removesuffix("]")
    major, _, minor = head.get("version", "").partition(".")
    missing = {image: Missing(why) for image, why in head.get("missing", {}).items()}
    return Fixture(
        path=path,
        violates=[part.strip() for part in paths.split(", ") if part.strip()],
        version=(int(major), int(minor)) if minor else VERSIONS[-1],
        facts=Facts(
            {image: _image(said) for image, said in head.get("images", {}).items()},
            head.get("digests", {}) | missing,
            frozenset(head.get("architectures", ())),
            scans=_scans(head["scans"]) if "scans" in head else None,
            now=NOW,
        ),
        parameters=head.get("parameters", {}),
        ephemeral=head.get("ephemeral", ""),
    )


def _scans(said: dict[str, list[str] | None]) -> dict[str, Scans]:
    return {
        image: scans() if found is None else scans(evidence(*map(vulnerability, found), now=NOW))
        for image, found in said.items()
    }


def _image(said: dict[str, Any]) -> ImageFacts:
    plain: dict[str, Any] = dict(said)
    for key, each in said.items():
        if isinstance(each, list):
            plain[key] = tuple(each)
    if "profile" in plain:
        plain["profile"] = _profile(plain["profile"])
    if "architectures" in plain:
        plain["architectures"] = frozenset(plain["architectures"])
    return ImageFacts(**plain)


def _profile(said: tuple[Any, ...] | dict[str, Any]) -> Profile:
    """A user, a group and paths, or the fields by name."""
    if not isinstance(said, dict):
        user, group, *writable = said
        return Profile("known", user, group, tuple(writable))
    plain: dict[str, Any] = dict(said)
    for key, each in said.items():
        if isinstance(each, list):
            plain[key] = tuple(each)
    return Profile("known", **plain)


def policy_of(rule: Rule, fixture: Fixture) -> Policy:
    """A policy of this rule alone."""
    setting = Setting(
        rule=rule,
        mutation="Enabled" if rule.mutates else "Disabled",
        actions=frozenset(("Deny",)),
        parameters=rule.parameters(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in fixture.parameters.items()
            }
        ),
    )
    return Policy(title="the rule alone", settings=(setting,), version=fixture.version)


@dataclass(frozen=True)
class Outcome:
    """One document of a fixture: `result` is the document with the changes made."""

    workload: Workload
    verdict: Verdict
    result: Any


def judge(document: Any, policy: Policy, fixture: Fixture) -> list[Outcome]:
    """By the engine. A List is patched once for each of its items."""
    outcomes = []
    result = document
    for root, read in read_objects(document):
        workload = _narrowed(read, fixture)
        verdict = evaluate(workload, policy, fixture.facts)
        changes = [applied.change for applied in verdict.changes]
        result = jsonpatch.apply_patch(result, operations(workload, changes, root))
        outcomes.append(Outcome(workload, verdict, result))
    return outcomes


def places(outcome: Outcome, violations: tuple[Violation, ...]) -> list[str]:
    return [field_path(outcome.workload.prefix + v.finding.path) for v in violations]


def _narrowed(workload: Workload, fixture: Fixture) -> Workload:
    if not fixture.ephemeral:
        return workload
    return ephemeral_workload(workload.template, _without(workload.template, fixture.ephemeral))


def _without(pod: PodTemplate, name: str) -> PodTemplate:
    assert pod.spec is not None
    kept = [c for c in pod.spec.ephemeralContainers or () if c.name != name]
    assert len(kept) < len(pod.spec.ephemeralContainers or ())
    spec = msgspec.structs.replace(pod.spec, ephemeralContainers=kept)
    return msgspec.structs.replace(pod, spec=spec)


# --- through the webhooks -----------------------------------------------------------------------


@dataclass(frozen=True)
class Reviewed:
    allowed: bool
    causes: list[str]
    result: Any


def review(webhook: Webhook, document: Any, policy: Policy, fixture: Fixture) -> Reviewed:
    """The webhook's answer to the document's creation, or to `kubectl debug` for `ephemeral`."""
    kind = {"group": group_of(document["apiVersion"]), "version": "v1", "kind": document["kind"]}
    request = {
        "uid": "7f0b7b1e-0000-4000-8000-000000000000",
        "kind": kind,
        "operation": "CREATE",
        "name": document["metadata"].get("name", ""),
        "namespace": "default",
        "userInfo": {"username": "tester"},
        "object": document,
        "oldObject": None,
    }
    if fixture.ephemeral:
        old = json.loads(json.dumps(document))
        old["spec"]["ephemeralContainers"] = [
            c for c in old["spec"]["ephemeralContainers"] if c["name"] != fixture.ephemeral
        ]
        request |= {
            "operation": "UPDATE",
            "subResource": "ephemeralcontainers",
            "oldObject": old,
        }
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    answer = respond(webhook, json.dumps(body).encode(), under(policy, fixture.facts))
    response = json.loads(answer.body)["response"]
    result = document
    if "patch" in response:
        result = jsonpatch.apply_patch(document, json.loads(base64.b64decode(response["patch"])))
    causes = response.get("status", {}).get("details", {}).get("causes", [])
    return Reviewed(response["allowed"], [cause["field"] for cause in causes], result)


# --- through files ------------------------------------------------------------------------------


def write_policy(folder: Path, rule: Rule, fixture: Fixture) -> Path:
    """The file of a HardeningPolicy of this rule alone."""
    rules: dict[str, dict[str, Any]] = {}
    for other in RULES:
        rules[other.name] = {"validationActions": []}
        if other.mutates:
            rules[other.name]["mutation"] = "Disabled"
    rules[rule.name] = {"validationActions": ["Deny"]}
    if rule.mutates:
        rules[rule.name]["mutation"] = "Enabled"
    for name, value in fixture.parameters.items():
        rules[rule.name][to_camel(name)] = value
    major, minor = fixture.version
    policy = {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningPolicy",
        "metadata": {"name": "alone"},
        "spec": {"podSecurityVersion": f"v{major}.{minor}", "rules": rules},
    }
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(policy))
    return path


def check_file(fixture: Fixture, policy: Path) -> list[str]:
    """The field paths that `batten check` objects to."""
    options = parser().parse_args(["check", "--policy", str(policy), str(fixture.path)])
    result = check.judge(options)
    assert result.unusable == []
    return [problem.field for problem in result.problems]
