"""AdmissionReviews as an API server sends them, and a check of what it would say to an answer."""

from __future__ import annotations

import base64
import copy
import json
import re
from typing import Any

import jsonpatch

from batten_webhooks.policy import PRESETS, Policy
from batten_webhooks.review import Answer, Webhook, respond, under

UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
HARDENED = PRESETS["hardened"]
Json = Any

_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_OPERATION_KEYS = {
    "add": {"op", "path", "value"},
    "replace": {"op", "path", "value"},
    "remove": {"op", "path"},
}


def pod(**spec: Json) -> Json:
    """A Pod that says nothing of security, with fields of its spec."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": "registry.example/app:1.4"}], **spec},
    }


def container(name: str = "app", **fields: Json) -> Json:
    return {"name": name, "image": "registry.example/app:1.4", **fields}


def deployment(template: Json, **spec: Json) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": {key: template[key] for key in ("metadata", "spec")}, **spec},
    }


def review(  # noqa: PLR0913
    value: Json,
    old: Json = None,
    *,
    operation: str = "CREATE",
    subresource: str = "",
    groups: tuple[str, ...] = ("system:authenticated",),
    api_version: str = "",
    kind: str = "",
) -> Json:
    """The request for an object; its kind is the object's own unless another is said."""
    shape = value or old
    group, _, version = (api_version or text(shape, "apiVersion")).rpartition("/")
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": {"group": group, "version": version, "kind": kind or text(shape, "kind")},
            "resource": {"group": group, "version": version, "resource": "pods"},
            "name": "web",
            "namespace": "shop",
            "operation": operation,
            "subResource": subresource,
            "userInfo": {"username": "jane", "groups": list(groups)},
            "object": value,
            "oldObject": old,
            "dryRun": False,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    }


def text(value: Json, field: str) -> str:
    """A field's text, "" for whatever else stands there."""
    found = value.get(field) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def hardened(value: Json) -> Json:
    """The Pod as `mutate` leaves it."""
    response = answered("mutate", review(value))
    return jsonpatch.apply_patch(value, patch_of(response))


def answered(webhook: Webhook, sent: Json, policy: Policy = HARDENED) -> Json:
    """The response to a review; proves that an API server accepts it."""
    answer = respond(webhook, json.dumps(sent).encode(), under(policy))
    return assert_accepted(webhook, sent["request"], answer)


def assert_accepted(webhook: Webhook, request: Json, answer: Answer) -> Json:
    """What kube-apiserver verifies of an answer, and what it would drop or refuse; its response.

    See VerifyAdmissionResponse in k8s.io/apiserver, pkg/admission/plugin/webhook/request, and
    NewWarningHeader in k8s.io/apimachinery, pkg/util/net/http.go.
    """
    review = json.loads(answer.body.decode("utf-8"))
    assert review.keys() == {"apiVersion", "kind", "response"}
    assert (review["apiVersion"], review["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = review["response"]
    assert response["uid"] == request["uid"] == answer.uid
    assert response["allowed"] is answer.allowed
    assert ("patch" in response) is ("patchType" in response) is answer.mutated
    if answer.mutated:
        assert webhook == "mutate"
        assert response["allowed"]
        assert request["operation"] != "DELETE"
        _assert_applies(request["object"], response)
    assert ("status" in response) is not response["allowed"]
    if not response["allowed"]:
        _assert_status(response["status"])
    _assert_warnings(response.get("warnings", []))
    for key, value in response.get("auditAnnotations", {}).items():
        assert _QUALIFIED.fullmatch(key)
        assert len(key) <= 63
        assert isinstance(value, str)
    assert response.keys() <= {
        "uid", "allowed", "patch", "patchType", "status", "warnings", "auditAnnotations"
    }  # fmt: skip
    return response


def patch_of(response: Json) -> Json:
    """The JSON Patch of a response, [] where there is none."""
    return json.loads(base64.b64decode(response.get("patch", "W10="), validate=True))


def _assert_applies(value: Json, response: Json) -> None:
    assert response["patchType"] == "JSONPatch"
    patch = patch_of(response)
    assert isinstance(patch, list)
    assert patch
    for operation in patch:
        assert operation.keys() == _OPERATION_KEYS[operation["op"]]
    before = copy.deepcopy(value)
    changed = jsonpatch.apply_patch(value, patch)
    assert value == before
    assert changed != before


def _assert_status(status: Json) -> None:
    assert status["status"] == "Failure"
    assert status["code"] == 403
    assert status["reason"] == "Forbidden"
    assert status["message"]
    assert status["details"].keys() == {"name", "group", "kind", "causes"}
    assert status["details"]["causes"]
    for cause in status["details"]["causes"]:
        assert cause.keys() == {"reason", "message", "field"}
        assert all(isinstance(text, str) and text for text in cause.values())


def _assert_warnings(warnings: Json) -> None:
    assert len(set(warnings)) == len(warnings)
    assert sum(len(warning.encode()) for warning in warnings) <= 4096
    for warning in warnings:
        assert 0 < len(warning) <= 256
        assert warning.isprintable(), "an API server drops warnings with control characters"
