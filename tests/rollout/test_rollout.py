"""The steps to enforcement, without a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import yaml

from batten_webhooks.audit import Audit, Remark, WorkloadResult
from batten_webhooks.policy import PRESETS
from batten_webhooks.policy_file import load_all
from batten_webhooks.rollout import plan, standing, text

REFUSED = Remark(
    rule="no-privileged",
    outcome="refused",
    container="app",
    detail="it is privileged",
    remedy="remove it",
    path="spec.template.spec.containers[0].securityContext.privileged",
)


def audit(*, shop: tuple[Remark, ...] = (REFUSED,), problems: tuple[str, ...] = ()) -> Audit:
    workloads = [
        WorkloadResult("fine", "Deployment", "web", 1, "p", "w"),
        WorkloadResult("shop", "Deployment", "web", 1, "p", "w", shop),
    ]
    return Audit("here", datetime(2026, 1, 1, tzinfo=UTC), workloads, (), list(problems))


def policies(printed: str) -> list[Any]:
    return [value for value in yaml.safe_load_all(printed) if value]


def test_a_namespace_without_refusals_is_held_and_others_are_warned() -> None:
    printed = text(plan(audit(), {}))
    assert standing(policies(printed)) == {"fine": "Deny", "shop": "Warn"}
    assert f"{REFUSED.path}: {REFUSED.remedy}" in printed
    priorities = [policy["spec"]["priority"] for policy in policies(printed)]
    assert len(set(priorities)) == len(priorities)


def test_what_was_mended_is_held_next_and_then_nothing_is_left() -> None:
    first = standing(policies(text(plan(audit(), {}))))
    second = text(plan(audit(shop=()), first))
    assert standing(policies(second)) == {"fine": "Deny", "shop": "Deny"}
    assert "kubectl delete hardeningpolicy batten-rollout-warn" in second
    third = text(plan(audit(shop=()), standing(policies(second))))
    assert policies(third) == []
    assert "Nothing is left" in third


def test_nothing_more_is_refused_where_something_was_not_read() -> None:
    printed = text(plan(audit(problems=("cronjobs: forbidden",)), {"fine": "Warn"}))
    assert standing(policies(printed)) == {"fine": "Warn", "shop": "Audit"}
    assert "cronjobs: forbidden" in printed


def test_no_namespace_goes_back_or_is_forgotten() -> None:
    planned = plan(audit(), {"shop": "Deny", "elsewhere": "Warn"})
    assert standing(policies(text(planned))) == {
        "fine": "Deny",
        "shop": "Deny",
        "elsewhere": "Warn",
    }


def test_others_policies_do_not_count_as_steps() -> None:
    theirs = policies(text(plan(audit(), {})))
    for policy in theirs:
        policy["metadata"]["name"] = "theirs"
    assert standing([*theirs, None, {"metadata": 3}]) == {}


def test_a_name_cannot_leave_its_comment() -> None:
    hostile = Remark("r", "refused", "", "d", "x\nkind: Secret", "spec")
    assert all(
        policy["kind"] == "HardeningPolicy"
        for policy in policies(text(plan(audit(shop=(hostile,)), {})))
    )


def test_the_steps_are_policies_that_govern_what_they_name() -> None:
    found = load_all([("step.yaml", text(plan(audit(), {})).encode())])
    governance = found.governance(PRESETS["hardened"])
    assert not governance.needs_labels
    for namespace, title in (
        ("fine", 'HardeningPolicy "batten-rollout-deny"'),
        ("shop", 'HardeningPolicy "batten-rollout-warn"'),
        ("elsewhere", 'preset "hardened"'),
    ):
        assert governance.governing(namespace, {}, {}, 0.0).policy.title == title
