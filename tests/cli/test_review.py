"""`batten review` answers as the webhook does, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batten_command import batten, batten_inside
from batten_reviews import container, deployment, hardened, pod, review

from batten_webhooks.policy import PRESETS
from batten_webhooks.review import Webhook, respond, under

REVIEWS = {
    "plain": review(pod()),
    "hardened": review(hardened(pod())),
    "privileged": review(pod(containers=[container(securityContext={"privileged": True})])),
    "deployment": review(deployment(pod(), replicas=2)),
    "deleted": review(None, pod(), operation="DELETE"),
}


@pytest.mark.parametrize("name", REVIEWS)
@pytest.mark.parametrize("webhook", ["mutate", "validate"])
@pytest.mark.parametrize("policy", ["restricted", "hardened"])
def test_it_answers_as_the_webhook(
    name: str, webhook: Webhook, policy: str, tmp_path: Path
) -> None:
    body = json.dumps(REVIEWS[name]).encode()
    ran = batten_inside(
        "review", f"--webhook={webhook}", f"--policy={policy}", stdin=body, cwd=tmp_path
    )
    answer = respond(webhook, body, under(PRESETS[policy]))
    assert ran.out.encode() == answer.body + b"\n"
    assert ran.code == (0 if answer.allowed else 1)
    assert ran.err == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "HTTP 400: not an AdmissionReview"),
        (b"\xff\xfe", "HTTP 400: not an AdmissionReview"),
        (b"[" * 100_000, "HTTP 400: not an AdmissionReview"),
        (b'{"apiVersion": "v1", "kind": "Pod"}', "HTTP 400: "),
        (b" " * (8 * 2**20 + 1), "the review has more than 8 MiB"),
    ],
    ids=["empty", "binary", "deep", "pod", "large"],
)
@pytest.mark.parametrize("webhook", ["mutate", "validate"])
def test_what_is_no_review(body: bytes, message: str, webhook: str) -> None:
    ran = batten("review", f"--webhook={webhook}", stdin=body)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"batten: {message}")
    assert ran.err.count("\n") == 1


def test_custom_kinds(tmp_path: Path) -> None:
    widget = pod(hostPID=True) | {"apiVersion": "example.com/v1", "kind": "Widget"}
    widget["spec"] = {"pod": {"spec": widget["spec"]}}
    body = json.dumps(review(widget)).encode()
    refused = batten_inside("review", "--webhook=validate", stdin=body, cwd=tmp_path)
    assert refused.code == 2
    kinds = "--kinds=Widget.example.com=spec.pod"
    ran = batten_inside("review", "--webhook=validate", kinds, stdin=body, cwd=tmp_path)
    assert ran.code == 1
    causes = json.loads(ran.out)["response"]["status"]["details"]["causes"]
    assert "spec.pod.spec.hostPID" in {cause["field"] for cause in causes}
