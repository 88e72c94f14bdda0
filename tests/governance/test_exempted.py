"""What an exception lifts is neither changed nor acted upon, and everything else still is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import jsonpatch
from batten_reviews import container, pod
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.engine import evaluate
from batten_webhooks.governance import Exemption, Exemptions, Governance, Governed
from batten_webhooks.inquiry import inquire
from batten_webhooks.patch import operations
from batten_webhooks.policy import PRESETS, Policy
from batten_webhooks.rules.rule import Facts
from batten_webhooks.verdict import Verdict, acting
from batten_webhooks.workload import Workload, read_object

HARDENED = PRESETS["hardened"]


def read(value: Any) -> Workload:
    found = read_object(value)
    assert found is not None
    return found


def lifted(*rules: str, containers: tuple[str, ...] = ()) -> Exemptions:
    found = Exemption(
        "legacy", frozenset(("shop",)), frozenset(rules), "r", 2.0, containers=frozenset(containers)
    )
    return Governance(HARDENED, (), [found]).governing("shop", {}, {}, 1.0).exemptions


def judged(value: Any, exemptions: Exemptions, policy: Policy = HARDENED) -> Verdict:
    return evaluate(read(value), policy, exemptions=exemptions)


def mended(value: Any, exemptions: Exemptions) -> Any:
    workload = read(value)
    changes = [applied.change for applied in judged(value, exemptions).changes]
    return jsonpatch.apply_patch(value, operations(workload, changes))


def test_what_is_lifted_is_recorded_and_nothing_else() -> None:
    verdict = judged(pod(), lifted("read-only-root-filesystem"))
    (found,) = (v for v in verdict.violations if v.rule == "read-only-root-filesystem")
    assert (found.exception, found.fixed, found.finding.changes) == ("legacy", False, ())
    assert found.actions
    assert found not in acting(verdict.violations, "Deny")
    assert "readOnlyRootFilesystem" not in str(verdict.changes)
    assert any(applied.rule == "drop-capabilities" for applied in verdict.changes)
    assert not any(v.exception for v in verdict.violations if v is not found)


def test_for_one_container_the_others_are_set_by_themselves() -> None:
    """What would be set on the whole Pod must not reach the container that is lifted."""
    value = pod(containers=[container("app"), container("legacy")])
    rules = ("run-as-non-root", "seccomp-profile")
    made = mended(value, lifted(*rules, containers=("legacy",)))["spec"]
    app, legacy = made["containers"]
    assert made.get("securityContext", {}) == {}
    assert app["securityContext"]["runAsNonRoot"] is True
    assert app["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "runAsNonRoot" not in legacy["securityContext"]
    assert "seccompProfile" not in legacy["securityContext"]


def test_a_weaker_rule_within_the_lifted_one_holds_on() -> None:
    capabilities: Any = {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
    value = pod(containers=[container(**capabilities), container("other", **capabilities)])
    setting = next(s for s in HARDENED.settings if s.rule.name == "drop-capabilities")
    policy = replace(HARDENED, settings=(setting,))
    verdict = judged(value, lifted("drop-capabilities", containers=("app",)), policy)
    told = [(v.rule, v.finding.container) for v in acting(verdict.violations, "Deny")]
    assert sorted(set(told)) == [("drop-capabilities", "other"), ("no-added-capabilities", "app")]


def test_who_is_exempt_is_recorded_by_name() -> None:
    setting = next(s for s in HARDENED.settings if s.rule.name == "no-latest-tag")
    exempt = replace(setting, exempt_users=frozenset(("jane",)))
    policy = replace(HARDENED, settings=(exempt,))
    latest = read(pod(containers=[container(image="nginx")]))
    (found,) = evaluate(latest, policy, Facts(requester="jane")).violations
    assert found.exception == "exempt user jane"
    (other,) = evaluate(latest, policy, Facts(requester="joe")).violations
    assert other.exception == ""


def test_once_is_as_good_as_twice_and_what_is_changed_is_fine() -> None:
    exemptions = lifted("read-only-root-filesystem", "run-as-non-root", containers=("legacy",))
    value = pod(containers=[container("app"), container("legacy")])
    once = mended(value, exemptions)
    verdict = judged(once, exemptions)
    assert verdict.changes == ()
    assert acting(verdict.violations, "Deny") == []


def test_a_profile_of_the_whole_pod_is_not_lifted_for_one_container() -> None:
    value = pod(securityContext={"seccompProfile": {"type": "Unconfined"}})
    setting = next(s for s in HARDENED.settings if s.rule.name == "seccomp-profile")
    policy = replace(HARDENED, settings=(setting,))

    def denied(exemptions: Exemptions) -> set[str]:
        return {v.rule for v in acting(judged(value, exemptions, policy).violations, "Deny")}

    assert denied(lifted("seccomp-profile", containers=("app",))) == {"seccomp-profile"}
    assert denied(lifted("seccomp-profile")) == {"no-unconfined-seccomp"}
    assert denied(lifted("seccomp-profile", "no-unconfined-seccomp")) == set()


def test_who_is_exempt_is_held_by_the_weaker_rule_and_nothing_is_changed_for_him() -> None:
    capabilities: Any = {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
    setting = next(s for s in HARDENED.settings if s.rule.name == "drop-capabilities")
    exempt = replace(setting, exempt_users=frozenset(("jane",)))
    policy = replace(HARDENED, settings=(exempt,))
    workload = read(pod(containers=[container(**capabilities)]))
    verdict = evaluate(workload, policy, Facts(requester="jane"))
    assert verdict.changes == ()
    assert {v.rule for v in acting(verdict.violations, "Deny")} == {"no-added-capabilities"}


rules = st.sets(st.sampled_from([setting.rule.name for setting in HARDENED.settings]))
names = st.sets(st.sampled_from(["app", "legacy", "setup"]))


@given(rules, names)
def test_what_is_mended_is_let_through_and_stays_as_it_is(
    some: set[str], containers: set[str]
) -> None:
    exemptions = lifted(*some, containers=tuple(containers))
    value = pod(
        containers=[container("app"), container("legacy")], initContainers=[container("setup")]
    )
    once = mended(value, exemptions)
    verdict = judged(once, exemptions)
    assert verdict.changes == ()
    assert acting(verdict.violations, "Deny") == []


def test_what_is_let_in_whatever_its_tag_is_given_a_digest_all_the_same() -> None:
    workload, name = read(pod(containers=[container(image="app:latest")])), "no-latest-tag"
    assert all(s.actions == {"Deny"} for s in HARDENED.settings if s.rule.name == name)

    def asked(policy: Policy, *rules: str) -> Collection[str]:
        governed = Governed(policy, exemptions=lifted(*rules))
        found = inquire(workload, "shop", governed)
        return found.pin if found is not None else ()

    assert "app:latest" not in asked(HARDENED)
    assert "app:latest" not in asked(HARDENED, "drop-capabilities")
    assert "app:latest" in asked(HARDENED, name)
    settings = tuple(
        replace(s, exempt_users=frozenset(("robot",))) if s.rule.name == name else s
        for s in HARDENED.settings
    )
    assert "app:latest" in asked(replace(HARDENED, settings=settings))
