"""The answers keep to the protocol, whatever operation, kind and subresource is asked about."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batten_reviews import (
    HARDENED,
    UID,
    answered,
    container,
    deployment,
    hardened,
    patch_of,
    pod,
    review,
)

from batten_webhooks.policy import PRESETS, observing
from batten_webhooks.review import BadReview, Webhook, respond, under

WEBHOOKS: tuple[Webhook, ...] = ("mutate", "validate")
PRIVILEGED = pod(containers=[container(securityContext={"privileged": True})])


def refused(webhook: Webhook, sent: Any, status: int = 400) -> str:
    """The message of a review that is answered by an HTTP error."""
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    with pytest.raises(BadReview) as caught:
        respond(webhook, body, under(HARDENED))
    assert caught.value.status == status
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_a_pod_is_changed_and_then_accepted() -> None:
    response = answered("mutate", review(pod()))
    paths = [operation["path"] for operation in patch_of(response)]
    assert any("securityContext" in path for path in paths)

    changed = hardened(pod())
    assert patch_of(answered("mutate", review(changed))) == []
    assert answered("validate", review(changed))["allowed"]


def test_an_unchanged_pod_is_refused() -> None:
    """Its mutation was skipped, or undone by another webhook."""
    response = answered("validate", review(pod()))
    assert not response["allowed"]
    assert 'Pod "web" breaks' in response["status"]["message"]


def test_a_policy_that_only_observes_changes_and_denies_nothing() -> None:
    policy = observing(HARDENED)
    mutated = answered("mutate", review(PRIVILEGED), policy)
    assert "patch" not in mutated
    assert json.loads(mutated["auditAnnotations"]["would-change"])
    judged = answered("validate", review(PRIVILEGED), policy)
    assert judged["allowed"]
    assert any("no-privileged" in warning for warning in judged["warnings"])


@pytest.mark.parametrize("preset", ["baseline", "restricted"])
def test_the_standards_change_nothing(preset: str) -> None:
    assert patch_of(answered("mutate", review(PRIVILEGED), PRESETS[preset])) == []
    assert not answered("validate", review(PRIVILEGED), PRESETS[preset])["allowed"]


@pytest.mark.parametrize("webhook", WEBHOOKS)
def test_deletion_is_never_hindered(webhook: Webhook) -> None:
    response = answered(webhook, review(None, PRIVILEGED, operation="DELETE"))
    assert response == {"uid": UID, "allowed": True}


@pytest.mark.parametrize("operation", ["CONNECT", "", "create", "PATCH"])
def test_other_operations_are_not_judged(operation: str) -> None:
    """Nobody registers for them: `allowed` would be an opinion that nobody formed."""
    assert "operation" in refused("validate", review(PRIVILEGED, operation=operation))
    assert answered("mutate", review(PRIVILEGED, operation=operation)) == {
        "uid": UID,
        "allowed": True,
    }


def test_an_update_is_not_changed() -> None:
    """Nearly all of a Pod's spec is immutable."""
    assert patch_of(answered("mutate", review(pod(), pod(), operation="UPDATE"))) == []


def test_a_template_is_never_changed() -> None:
    assert patch_of(answered("mutate", review(deployment(pod())))) == []


@pytest.mark.parametrize("webhook", WEBHOOKS)
@pytest.mark.parametrize("field", ["object", "oldObject"])
def test_a_missing_object_is_an_error(webhook: Webhook, field: str) -> None:
    sent = review(pod(), pod(), operation="UPDATE", subresource="ephemeralcontainers")
    for absent in (None, "left out"):
        if absent is None:
            sent["request"][field] = None
        else:
            del sent["request"][field]
        assert refused(webhook, sent) == f"request.{field}: missing"


def test_an_unknown_kind_is_an_error() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}}
    assert "Secret" in refused("validate", review(secret))
    lie = review(pod(), kind="Deployment")
    assert "holds no Pod template" in refused("validate", lie)


def test_a_kind_that_the_object_denies_is_an_error() -> None:
    sent = review(deployment(PRIVILEGED))
    sent["request"]["object"]["kind"] = "Secret"
    assert refused("validate", sent) == "request.object: is not a Deployment"


def test_kinds_of_other_groups_are_no_pods() -> None:
    sent = review(PRIVILEGED)
    sent["request"]["kind"]["group"] = "example.com"
    assert "Pod" in refused("validate", sent)
    assert patch_of(answered("mutate", sent)) == []


@pytest.mark.parametrize("webhook", WEBHOOKS)
def test_only_version_1_is_understood(webhook: Webhook) -> None:
    for version in ("admission.k8s.io/v1beta1", "v1", ""):
        sent = {**review(pod()), "apiVersion": version}
        assert "admission.k8s.io/v1" in refused(webhook, sent)
    assert "AdmissionReview" in refused(webhook, {**review(pod()), "kind": "TokenReview"})


@pytest.mark.parametrize("webhook", WEBHOOKS)
def test_a_review_without_uid_is_an_error(webhook: Webhook) -> None:
    sent = review(pod())
    sent["request"]["uid"] = ""
    assert refused(webhook, sent) == "request.uid: missing"
    del sent["request"]["uid"]
    assert "uid" in refused(webhook, sent)


def test_the_request_names_what_has_no_name_yet() -> None:
    value = pod()
    value["metadata"] = {"generateName": "web-"}
    sent = review(value)
    sent["request"]["name"] = ""
    message = answered("validate", sent)["status"]["message"]
    assert message.startswith('Pod "web-" breaks')


def test_the_answer_tells_what_metrics_need() -> None:
    body = json.dumps(review(PRIVILEGED)).encode()
    answer = respond("validate", body, under(HARDENED))
    assert (answer.operation, answer.kind, answer.namespace) == ("CREATE", "Pod", "shop")
    assert any(violation.rule == "no-privileged" for violation in answer.violations)
    assert not answer.allowed
    assert respond("mutate", body, under(HARDENED)).mutated
