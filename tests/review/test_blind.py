"""Where nobody looks images up, what was not scanned is refused where a policy says so, and else
nobody is told of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batten_reviews import container, pod, review

from batten_webhooks.governance import Governance
from batten_webhooks.policy import PRESETS
from batten_webhooks.resources import read_policy
from batten_webhooks.review import Known, respond

IMAGE = f"registry.example/app@sha256:{'0' * 64}"


def answer(*actions: str, blind: bool = True) -> Any:
    rules = {"scanned-image": {"validationActions": list(actions)}}
    policy = read_policy(
        {
            "apiVersion": "batten.dev/v1alpha1",
            "kind": "HardeningPolicy",
            "metadata": {"name": "scanned"},
            "spec": {"defaults": {"mutation": "Disabled", "validationActions": []}, "rules": rules},
        }
    )
    known = Known(Governance(PRESETS["hardened"], [policy]), 0.0, blind=blind)
    body = json.dumps(review(pod(containers=[container(image=IMAGE)]))).encode()
    return json.loads(respond("validate", body, known).body)["response"]


def test_what_is_denied_is_refused() -> None:
    refused = answer("Deny")
    assert not refused["allowed"]
    assert "is not known to be scanned" in refused["status"]["message"]


@pytest.mark.parametrize("actions", [("Warn",), ("Warn", "Audit"), ()])
def test_what_only_warns_is_silent(actions: tuple[str, ...]) -> None:
    let_in = answer(*actions)
    assert let_in["allowed"]
    assert "scanned-image" not in json.dumps(let_in)


def test_a_file_is_not_judged_by_it() -> None:
    assert answer("Deny", blind=False)["allowed"]
