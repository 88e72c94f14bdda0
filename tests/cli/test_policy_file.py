"""Policies from files: every mistake is told with its place and the way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from batten_command import batten

from batten_webhooks.policy_file import PolicyError, load

HEAD = "apiVersion: batten.dev/v1alpha1\nkind: HardeningPolicy\nmetadata: {name: p}\n"
GRACE = HEAD + "spec:\n  rules:\n    graceful-shutdown:\n      preStopSleepSeconds: "
WRONG = {
    "nothing": ("# nothing\n", "p: holds no HardeningPolicy"),
    "a scalar": ("hello\n", 'p:1:1: must be an object, not "hello"'),
    "another kind": (HEAD.replace("Policy", "Polcy"), "2:1: kind: must be HardeningPolicy"),
    "another version": (HEAD.replace("alpha1", "beta9"), "1:1: apiVersion: must be batten.dev"),
    "no name": (HEAD.replace("metadata: {name: p}", "spec: {}"), "metadata: is missing"),
    "a bad name": (HEAD.replace("{name: p}", '{name: "p\\e["}'), "must be a name such as"),
    "a number as name": (HEAD.replace("{name: p}", "{name: 5}"), "a string, not 5: quote it"),
    "two documents": (f"{HEAD}---\n{HEAD}", "p:5:1: a second document"),
    "a list": ("apiVersion: v1\nkind: List\nitems: []\n", "p:2:1: kind: must be HardeningPolicy"),
    "broken YAML": (f"{HEAD}spec: [\n", "p:5:1: not valid YAML"),
    "an unknown rule": (
        f"{HEAD}spec:\n  rules:\n    run-as-nonroot: {{}}\n",
        "p:6:5: spec.rules.run-as-nonroot: unknown rule: did you mean run-as-non-root?",
    ),
    "an unknown field": (f"{HEAD}spec:\n  default: {{}}\n", "did you mean defaults?"),
    "an unknown null": (f"{HEAD}spec:\n  default:\n", "did you mean defaults?"),
    "a snake": (f"{HEAD}spec:\n  pod_security_version: x\n", "did you mean podSecurityVersion?"),
    "labels of Pods alone": (
        f"{HEAD}spec: {{match: {{podSelector: {{matchLabels: {{app: x}}}}}}}}\n",
        "spec.match: podSelector needs a namespaceSelector",
    ),
    "an operator without values": (
        (
            f"{HEAD}spec: {{match: {{namespaceSelector: "
            "{matchExpressions: [{key: a, operator: In}]}}}\n"
        ),
        "spec.match.namespaceSelector.matchExpressions[0]: values must not be empty",
    ),
    "a controller as an exempt user": (
        (
            f"{HEAD}spec: {{rules: {{probes: "
            "{exemptUsers: ['system:serviceaccount:kube-system:x']}}}\n"
        ),
        "spec.rules.probes.exemptUsers[0]: must be a person or a ServiceAccount",
    ),
    "escapes": (f'{HEAD}spec: {{rules: {{"\\e[31m": {{}}}}}}\n', "spec.rules[\\x1b[31m]"),
    "an action": (
        f"{HEAD}spec: {{defaults: {{validationActions: [deny]}}}}\n",
        "validationActions[0]: must be Deny, Warn or Audit, not deny: did you mean Deny?",
    ),
    "no list of actions": (
        f"{HEAD}spec: {{defaults: {{validationActions: Deny}}}}\n",
        'spec.defaults.validationActions: must be a list, not "Deny"',
    ),
    "a mutation": (f"{HEAD}spec: {{defaults: {{mutation: dryrun}}}}\n", "did you mean DryRun?"),
    "a mutation of a rule without": (
        f"{HEAD}spec: {{rules: {{probes: {{mutation: Disabled}}}}}}\n",
        "spec.rules.probes.mutation: unknown field: known are validationActions",
    ),
    "a version as number": (f"{HEAD}spec: {{podSecurityVersion: 1.36}}\n", "a string, not 1.36"),
    "a version to come": (f"{HEAD}spec: {{podSecurityVersion: v9.9}}\n", "must be latest, v1.33"),
    "a contradiction": (f"{GRACE}60\n", "p:7:7: spec.rules.graceful-shutdown.preStopSleepSeconds:"),
    "a negative": (f"{GRACE}-1\n", "must be more than 0 and less than terminationGracePeriod"),
    "a float": (f"{GRACE}1.5\n", "must be a whole number, not 1.5"),
    "a string": (f"{GRACE}'5'\n", 'must be a whole number, not "5"'),
    "a bool": (f"{GRACE}true\n", "must be a whole number, not true"),
    "a quantity": (
        f"{HEAD}spec: {{rules: {{writable-tmp: {{sizeLimit: 1 GB}}}}}}\n",
        "spec.rules.writable-tmp.sizeLimit: must be a quantity",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong(what: str) -> None:
    text, expected = WRONG[what]
    with pytest.raises(PolicyError) as error:
        load(text.encode(), "p")
    assert expected in str(error.value)
    assert str(error.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "spec:\n",
        "spec: {defaults: {mutation: , validationActions: }, rules: , podSecurityVersion: }\n",
        "spec: {rules: {graceful-shutdown: {preStopSleepSeconds: }, probes: }}\n",
        "---\n",
    ],
)
def test_null_is_not_said(spec: str) -> None:
    assert load(f"{HEAD}{spec}".encode(), "p") == load(HEAD.encode(), "p")


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(PolicyError) as error:
        load(f"{HEAD}spec: {{x: 1, defaults: {{mutation: 2}}}}\n".encode(), "p")
    assert [line[:6] for line in str(error.value).splitlines()] == ["p:4:8:", "p:4:25"]


def test_anchors_and_json_are_read() -> None:
    anchored = load(
        f"{HEAD}spec: {{defaults: {{validationActions: &a [Warn]}},"
        " rules: {probes: {validationActions: *a}}}\n".encode(),
        "p",
    )
    assert {setting.actions for setting in anchored.settings} >= {frozenset(["Warn"])}
    plain = b'{"apiVersion":"batten.dev/v1alpha1","kind":"HardeningPolicy","metadata":{"name":"p"}}'
    assert load(plain, "p") == load(HEAD.encode(), "p")


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, expected in {
        "pipe": "holds no HardeningPolicy",
        ".": "nor a readable file (is a directory)",
        "none": "(no such file or directory)",
        "/dev/zero": "more than 16 MiB",
    }.items():
        ran = batten("check", f"--policy={name}", ".", cwd=tmp_path)
        assert ran.code == 2
        assert expected in ran.err
