"""What an audit counts, without a cluster."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
import yaml

from batten_webhooks.audit import Audit, Judged, Outcome, Owner, Tally
from batten_webhooks.cli.formats import audit_json
from batten_webhooks.engine import evaluate
from batten_webhooks.policy import PRESETS, Mutation, Policy, observing
from batten_webhooks.verdict import Action
from batten_webhooks.workload import decode_pod, read_pod

HARDENED = PRESETS["hardened"]
OWNER = Owner("shop", "apps/v1", "Deployment", "web")
ROOT = {"name": "app", "image": "nginx:1.27", "securityContext": {"runAsUser": 0}}


def audit_of(policy: Policy, *containers: Mapping[str, object], pods: int = 1) -> Audit:
    tally = Tally()
    pod = decode_pod(msgspec.json.encode({"spec": {"containers": containers}}))
    workload = read_pod(pod)
    for _ in range(pods):
        verdict = evaluate(workload, policy)
        tally.add(OWNER, Judged(workload, verdict, policy.title, "why"))
    rules = tuple(setting.rule.name for setting in policy.settings)
    return Audit("https://here", datetime(2026, 1, 2, tzinfo=UTC), tally.results(), rules)


def outcome_of(policy: Policy, rule: str) -> Outcome:
    counts = audit_of(policy, ROOT).by_rule()["shop", rule]
    return next(outcome for outcome, count in counts.items() if count)


def only(mutation: Mutation, *actions: Action) -> Policy:
    settings = tuple(
        replace(setting, mutation=mutation, actions=frozenset(actions))
        for setting in HARDENED.settings
    )
    return replace(HARDENED, settings=settings)


def test_pods_of_one_owner_are_told_of_once() -> None:
    one, many = audit_of(HARDENED, ROOT), audit_of(HARDENED, ROOT, pods=3)
    assert many.workloads[0].pods == 3
    assert many.workloads[0].remarks == one.workloads[0].remarks
    assert many.totals()["refused"] == 1


def test_paths_are_those_of_the_owner() -> None:
    paths = [remark.path for remark in audit_of(HARDENED, ROOT).workloads[0].remarks]
    assert paths
    assert all(path.startswith("spec.template.") for path in paths)


@pytest.mark.parametrize(
    ("policy", "rule", "expected"),
    [
        (HARDENED, "run-as-non-root", "refused"),
        (HARDENED, "drop-capabilities", "changed"),
        (HARDENED, "resources", "warned"),
        (HARDENED, "no-privileged", "compliant"),
        (observing(HARDENED), "run-as-non-root", "warned"),
        (observing(HARDENED), "drop-capabilities", "changed"),
        (only("DryRun", "Deny"), "drop-capabilities", "refused"),
        (only("Disabled", "Warn"), "drop-capabilities", "warned"),
    ],
)
def test_what_becomes_of_a_finding(policy: Policy, rule: str, expected: Outcome) -> None:
    assert outcome_of(policy, rule) == expected


def test_an_excepted_violation_is_told_with_its_exception() -> None:
    workload = read_pod(decode_pod(msgspec.json.encode({"spec": {"containers": [ROOT]}})))
    verdict = evaluate(workload, HARDENED)
    lifted = [
        msgspec.structs.replace(each, exception="legacy") if not each.fixed else each
        for each in verdict.violations
    ]
    tally = Tally()
    verdict = msgspec.structs.replace(verdict, violations=tuple(lifted))
    tally.add(OWNER, Judged(workload, verdict, "", ""))
    (result,) = tally.results()
    assert result.outcome == "excepted"
    assert {each.exception for each in result.remarks if each.outcome == "excepted"} == {"legacy"}


def test_lines_to_add_are_yaml_that_names_the_container() -> None:
    remarks = audit_of(HARDENED, ROOT).workloads[0].remarks
    (drop,) = [remark for remark in remarks if remark.rule == "drop-capabilities"]
    container = {"name": "app", "securityContext": {"capabilities": {"drop": ["ALL"]}}}
    assert yaml.safe_load(drop.lines) == {"spec": {"containers": [container]}}


def test_what_is_written_as_json_is_read_again(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    audit = audit_of(HARDENED, ROOT)
    audit_json.write(audit, Namespace())
    sys.stdout.flush()
    assert audit_json.read(capfdbinary.readouterr().out) == audit


@pytest.mark.parametrize("data", [b"", b"[]", b'{"version": 1}', b"\xff"])
def test_what_is_no_audit_is_refused(data: bytes) -> None:
    with pytest.raises(audit_json.NotAnAudit):
        audit_json.read(data)
