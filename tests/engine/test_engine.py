"""How a policy's settings decide what becomes of a rule's findings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batten_webhooks.engine import WINDOWS_REMEDY, evaluate
from batten_webhooks.image_facts import ImageFacts, Profile
from batten_webhooks.policy import PRESETS, Mutation, Policy, Setting, observing
from batten_webhooks.rules import BY_NAME
from batten_webhooks.rules.rule import Facts
from batten_webhooks.verdict import Verdict
from batten_webhooks.workload import Workload, read_object

HARDENED = PRESETS["hardened"]


def workload(**spec: Any) -> Workload:
    spec.setdefault("containers", [{"name": "app", "image": "nginx:1.27"}])
    read = read_object({"apiVersion": "v1", "kind": "Pod", "spec": spec})
    assert read is not None
    return read


def policy(*rules: str, mutation: Mutation = "Enabled") -> Policy:
    settings = tuple(
        Setting(BY_NAME[name], mutation, frozenset(("Deny",)), BY_NAME[name].parameters())
        for name in rules
    )
    return Policy(title="test", settings=settings)


def rules_of(verdict: Verdict) -> list[str]:
    return [violation.rule for violation in verdict.violations]


@pytest.mark.parametrize(
    ("mutation", "changes", "proposed", "fixed"),
    [("Enabled", 1, 0, True), ("DryRun", 0, 1, False), ("Disabled", 0, 0, False)],
)
def test_mutation(mutation: Mutation, changes: int, proposed: int, fixed: bool) -> None:
    verdict = evaluate(workload(), policy("seccomp-profile", mutation=mutation))
    assert len(verdict.changes) == changes
    assert len(verdict.proposed) == proposed
    assert [violation.fixed for violation in verdict.violations] == [fixed]


def test_without_actions_nothing_is_violated_but_changes_are_made() -> None:
    demanded = policy("seccomp-profile")
    silent = replace(demanded, settings=(replace(demanded.settings[0], actions=frozenset()),))
    verdict = evaluate(workload(), silent)
    assert verdict.violations == ()
    assert len(verdict.changes) == 1


@pytest.mark.parametrize("name", ["baseline", "restricted"])
def test_the_standards_change_nothing(name: str) -> None:
    verdict = evaluate(workload(), PRESETS[name])
    assert (verdict.changes, verdict.proposed, verdict.unknowns) == ((), (), ())


def test_an_observed_policy_proposes_and_warns() -> None:
    verdict = evaluate(workload(), observing(HARDENED))
    assert verdict.changes == ()
    assert verdict.proposed == evaluate(workload(), HARDENED).changes
    assert not any("Deny" in violation.actions for violation in verdict.violations)


def test_rules_that_ask_for_the_same_change_it_once() -> None:
    pod = workload(
        securityContext={"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    )
    verdict = evaluate(pod, HARDENED)
    paths = [applied.change.path for applied in verdict.changes]
    assert len(paths) == len(set(paths))
    by_rule = {applied.rule for applied in verdict.changes}
    assert "misplaced-field" in by_rule
    assert "read-only-root-filesystem" not in by_rule
    assert {"read-only-root-filesystem", "drop-capabilities"} <= set(rules_of(verdict))
    assert verdict.remaining() == tuple(
        violation for violation in verdict.violations if not violation.fixed
    )


def test_windows_by_selector_alone_is_not_changed_and_told_why() -> None:
    verdict = evaluate(workload(nodeSelector={"kubernetes.io/os": "windows"}), HARDENED)
    assert (verdict.changes, verdict.proposed, verdict.unknowns) == ((), (), ())
    remedies = {v.finding.remedy for v in verdict.violations if v.rule == "seccomp-profile"}
    assert remedies == {WINDOWS_REMEDY}


def test_an_unknown_user_is_told_where_we_ask_for_non_root() -> None:
    demanded = policy("run-as-non-root")
    [unknown] = evaluate(workload(), demanded).unknowns
    assert unknown.rule == "run-as-non-root"
    assert unknown.container == "app"
    assert "nginx:1.27" in unknown.detail
    said = workload(securityContext={"runAsNonRoot": True})
    assert evaluate(said, demanded).unknowns == ()
    with_user = workload(securityContext={"runAsUser": 1000})
    assert evaluate(with_user, demanded).unknowns == ()
    known = Facts({"nginx:1.27": ImageFacts(user="101")})
    assert evaluate(workload(), demanded, known).unknowns == ()


def test_a_root_image_is_refused_in_the_words_of_the_design() -> None:
    known = Facts({"nginx:1.27": ImageFacts(user="")})
    verdict = evaluate(workload(), policy("run-as-non-root"), known)
    [violation] = verdict.remaining()
    assert violation.finding.detail == "image nginx:1.27 runs as root (USER is empty)"
    assert violation.finding.remedy == "set a non-zero uid, or use an image with a numeric USER"


@pytest.mark.parametrize(
    ("command", "deaf"),
    [
        (("/bin/sh", "-c", "python app.py"), True),
        (("bash", "-c", " nginx -g 'daemon off;'"), True),
        (("sh", "-c", "exec python app.py"), False),
        (("python", "app.py"), False),
        (("sh", "app.sh"), False),
        ((), False),
    ],
)
def test_a_program_that_a_shell_starts_hears_of_no_signal(
    command: tuple[str, ...], deaf: bool
) -> None:
    for said in (ImageFacts(cmd=command), ImageFacts(entrypoint=command, cmd=("--flag",))):
        known = Facts({"nginx:1.27": said})
        told = evaluate(workload(), policy("graceful-shutdown"), known).unknowns
        assert ["passes on no SIGTERM" in each.detail for each in told] == [True] * deaf
        own = workload(containers=[{"name": "app", "image": "nginx:1.27", "command": ["app"]}])
        assert evaluate(own, policy("graceful-shutdown"), known).unknowns == ()


@pytest.mark.parametrize(
    ("user", "refused"),
    [
        ("", True),
        ("0", True),
        ("00:5", True),
        ("+0", True),
        ("-0", True),
        (":1000", True),
        ("root", True),
        ("app", True),
        ("1_000", True),
        ("0x10", True),
        ("\u0663", True),
        ("9223372036854775808", True),
        ("9223372036854775807", False),
        ("+1000", False),
        ("1000:app", False),
    ],
)
def test_users_are_read_as_go_reads_numbers(user: str, refused: bool) -> None:
    """As `getUserFromImage` in containerd's CRI and the kubelet's `verifyRunAsNonRoot`."""
    known = Facts({"nginx:1.27": ImageFacts(user=user)})
    assert bool(evaluate(workload(), policy("run-as-non-root"), known).remaining()) == refused


@pytest.mark.parametrize(
    ("port", "sysctl", "told"),
    [
        ("80/tcp", "1024", True),
        ("80/tcp", "0000000080", False),
        ("80/tcp", "9" * 5000, True),
        ("9" * 5000 + "/tcp", "1024", False),
        ("²/tcp", "²", False),
    ],
)
def test_ports_are_numbers_that_can_be_read(port: str, sysctl: str, told: bool) -> None:
    facts = Facts(images={"nginx:1.27": ImageFacts(ports=(port,))})
    sysctls = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": sysctl}]
    pod = workload(securityContext={"sysctls": sysctls})
    verdict = evaluate(pod, policy("unprivileged-ports"), facts)
    assert bool(verdict.violations) is told


@pytest.mark.parametrize(
    ("own", "inherited", "changed"), [(None, None, True), (7, None, False), (None, 7, False)]
)
def test_a_profile_changes_no_group_that_is_said(
    own: int | None, inherited: int | None, changed: bool
) -> None:
    known = ImageFacts(user="root", profile=Profile("nginx", 101, 102))
    container = {"name": "app", "image": "nginx:1.27", "securityContext": {"runAsGroup": own}}
    pod = workload(containers=[container], securityContext={"runAsGroup": inherited})
    verdict = evaluate(pod, policy("run-as-non-root"), Facts(images={"nginx:1.27": known}))
    made = {each.change.path.rpartition("/")[2]: each.change.value for each in verdict.changes}
    assert made["runAsUser"] == 101
    assert made.get("runAsGroup") == (102 if changed else None)


@pytest.mark.parametrize(
    "image", ["nginx:1", "registry-1.docker.io/library/nginx:1", "docker.io:443/library/nginx:1"]
)
@pytest.mark.parametrize("digest", ["", "@sha256:" + "0" * 64])
def test_what_is_forbidden_is_so_by_any_name_with_a_digest_or_without(
    image: str, digest: str
) -> None:
    rule = BY_NAME["pinned-digest"]
    setting = Setting(rule, "Enabled", frozenset(("Deny",)), rule.parameters(forbid=("nginx",)))
    pod = workload(containers=[{"name": "app", "image": image + digest}])
    verdict = evaluate(pod, Policy(title="test", settings=(setting,)))
    assert any("forbidden" in each.finding.detail for each in verdict.violations)


@pytest.mark.parametrize("name", ["require", "forbid"])
def test_no_image_is_let_in_or_forbidden_by_its_tag(name: str) -> None:
    """It is given a digest before it is judged, and a pattern with a tag would not match it."""
    parameters = BY_NAME["pinned-digest"].parameters
    with pytest.raises(ValueError, match="names a tag, and what runs is a digest"):
        parameters(**{name: ("nginx:1.*",)})
    parameters(**{name: ("nginx@sha256:" + "0" * 64,)})
    parameters(leave_alone=("nginx:1.*",))
