"""Every rule's fixtures, through every door.

`pass.<case>.yaml` breaks nothing. `fail.<case>.yaml` breaks the rule at the places that its head
names. `mutated.<case>.yaml` is what the rule makes of `fail.<case>.yaml`; without one it must
change nothing. `BATTEN_UPDATE_GOLDENS=1` writes the mutated files anew: read the difference.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_fixtures import (
    NOW,
    Fixture,
    check_file,
    judge,
    places,
    policy_of,
    read_fixture,
    review,
    write_policy,
)

from batten_webhooks.cli.__main__ import main
from batten_webhooks.rules import BY_NAME, RULES
from batten_webhooks.rules.rule import Facts, Rule

FOLDER = Path(__file__).parent
KINDS = ("pass", "fail", "mutated")


def _files(kind: str) -> list[Any]:
    return [
        pytest.param(rule, path, id=f"{rule.name}/{path.name}")
        for rule in RULES
        for path in sorted((FOLDER / rule.name).glob(f"{kind}.*.yaml"))
    ]


def test_folders_are_rules() -> None:
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(BY_NAME)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_has_its_fixtures(rule: Rule) -> None:
    count = dict.fromkeys(KINDS, 0)
    for path in (FOLDER / rule.name).iterdir():
        parts = path.name.split(".")
        assert len(parts) == 3, f"{path}: expected KIND.CASE.yaml"
        assert parts[0] in KINDS, f"{path}: expected one of {KINDS}"
        assert parts[2] == "yaml", f"{path}: expected .yaml"
        count[parts[0]] += 1
        if parts[0] == "mutated":
            assert (path.parent / f"fail.{parts[1]}.yaml").exists(), f"{path}: of what?"
    assert count["pass"] >= 1
    assert count["fail"] >= 1
    assert bool(count["mutated"]) == rule.mutates


@pytest.mark.parametrize(("rule", "path"), _files("pass"))
def test_pass(rule: Rule, path: Path) -> None:
    fixture = read_fixture(path)
    policy = policy_of(rule, fixture)
    judged = 0
    for document in fixture.documents():
        for outcome in judge(document, policy, fixture):
            judged += 1
            assert outcome.verdict.violations == ()
            assert outcome.verdict.changes == ()
        if not document["kind"].endswith("List"):
            assert review("mutate", document, policy, fixture).result == document
            assert review("validate", document, policy, fixture).allowed
    assert judged


@pytest.mark.parametrize(("rule", "path"), _files("fail"))
def test_fail(rule: Rule, path: Path) -> None:
    fixture = read_fixture(path)
    policy = policy_of(rule, fixture)
    violated = []
    for document in fixture.documents():
        remaining: list[str] = []
        for outcome in judge(document, policy, fixture):
            found = places(outcome, outcome.verdict.violations)
            assert found, f"{outcome.workload.kind} {outcome.workload.name} breaks nothing"
            violated += found
            remaining += places(outcome, outcome.verdict.remaining())
            for violation in outcome.verdict.violations:
                assert violation.finding.detail
                assert violation.finding.remedy
        if not document["kind"].endswith("List"):
            # A Pod is judged as it stands, a template as the Pods that it would become.
            blamed = violated[-len(found) :] if document["kind"] == "Pod" else remaining
            reviewed = review("validate", document, policy, fixture)
            assert reviewed.causes == blamed
            assert reviewed.allowed == (not blamed)
    assert fixture.violates == violated, f"expected the head: # violates: [{', '.join(violated)}]"


@pytest.mark.parametrize(("rule", "path"), _files("fail"))
def test_mutated(rule: Rule, path: Path) -> None:
    fixture = read_fixture(path)
    policy = policy_of(rule, fixture)
    results = [_mutated(document, rule, fixture) for document in fixture.documents()]
    golden = path.with_name(path.name.replace("fail", "mutated", 1))
    if os.environ.get("BATTEN_UPDATE_GOLDENS") and results != fixture.documents():
        left = [place for result in results for place in _left(result, rule, fixture)]
        head = f"# violates: [{', '.join(left)}]\n" if left else ""
        golden.write_text(head + yaml.safe_dump_all(results, sort_keys=False))
    if not golden.exists():
        assert results == fixture.documents()
        return
    expected = read_fixture(golden)
    assert results == expected.documents()
    assert results != fixture.documents()
    assert [p for result in results for p in _left(result, rule, fixture)] == expected.violates
    for document, result in zip(fixture.documents(), results, strict=True):
        if document["kind"] == "Pod":
            assert review("mutate", document, policy, fixture).result == result
        assert _mutated(result, rule, fixture) == result


@pytest.mark.parametrize(("rule", "path"), [*_files("pass"), *_files("fail")])
def test_files(
    rule: Rule, path: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """`batten check` and `batten harden` say and make the same of the file."""
    fixture = read_fixture(path)
    if fixture.ephemeral or fixture.facts != Facts(now=NOW):
        return  # a file tells of neither
    policy = write_policy(tmp_path, rule, fixture)
    assert Counter(check_file(fixture, policy)) == Counter(fixture.violates)
    code = main(["harden", "--policy", str(policy), str(path)])
    printed = capsysbinary.readouterr().out
    expected = [_mutated(document, rule, fixture) for document in fixture.documents()]
    assert list(yaml.safe_load_all(printed)) == expected
    outcomes = [o for result in expected for o in judge(result, policy_of(rule, fixture), fixture)]
    assert code == any(outcome.verdict.remaining() for outcome in outcomes)
    if expected == fixture.documents():
        assert printed == path.read_bytes()


def _mutated(document: Any, rule: Rule, fixture: Fixture) -> Any:
    outcomes = judge(document, policy_of(rule, fixture), fixture)
    return outcomes[-1].result


def _left(document: Any, rule: Rule, fixture: Fixture) -> list[str]:
    outcomes = judge(document, policy_of(rule, fixture), fixture)
    return [place for o in outcomes for place in places(o, o.verdict.violations)]
