"""Bodies that no API server would send: an error or a judgement, never more and never `allowed`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batten_growth import growth
from batten_reviews import HARDENED, assert_accepted, container, deployment, pod, review

from batten_webhooks.review import Answer, BadReview, Webhook, respond, under

WEBHOOKS: tuple[Webhook, ...] = ("mutate", "validate")
PRIVILEGED = container(securityContext={"privileged": True})
ENVELOPE = json.dumps(review(pod())).encode()
DEEP = 100_000


def outcome(webhook: Webhook, body: bytes) -> Answer | BadReview:
    try:
        return respond(webhook, body, under(HARDENED))
    except BadReview as error:
        return error


def assert_not_allowed(body: bytes) -> None:
    found = outcome("validate", body)
    assert isinstance(found, BadReview) or not found.allowed


@pytest.mark.parametrize("webhook", WEBHOOKS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"true",
        b'"AdmissionReview"',
        b"\xff\xfe",
        b"\xef\xbb\xbf" + ENVELOPE,
        ENVELOPE + b"{}",
        ENVELOPE[:-1],
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"x"}}',
        b"NaN",
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b"[" * DEEP + b"]" * DEEP,
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_no_review(webhook: Webhook, body: bytes) -> None:
    assert isinstance(outcome(webhook, body), BadReview)


@pytest.mark.parametrize("value", [None, True, 1, -1.5, "x", [], {}, [{}], {"a": None}])
@pytest.mark.parametrize(
    "path",
    [
        "uid", "kind", "kind.kind", "operation", "name", "namespace", "subResource", "userInfo",
        "userInfo.groups", "object", "object.metadata", "object.metadata.annotations",
        "object.metadata.ownerReferences", "object.spec", "object.spec.containers",
        "object.spec.containers.0", "object.spec.containers.0.name",
        "object.spec.containers.0.image", "object.spec.containers.0.ports",
        "object.spec.containers.0.env", "object.spec.containers.0.volumeMounts",
        "object.spec.volumes", "object.spec.os", "object.spec.securityContext",
        "object.spec.terminationGracePeriodSeconds", "object.spec.initContainers",
    ],
)  # fmt: skip
def test_wrong_types(path: str, value: Any) -> None:
    """Whatever is put in one place, the privileged sidecar stays refused."""
    sent = review(pod(initContainers=[PRIVILEGED], volumes=[], os=None, securityContext={}))
    *above, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = sent["request"]
    for key in above:
        place = place[key]
    place[last] = value
    body = json.dumps(sent).encode()
    found = outcome("mutate", body)
    if isinstance(found, Answer):
        assert_accepted("mutate", sent["request"], found)
    found = outcome("validate", body)
    if isinstance(found, Answer):
        assert_accepted("validate", sent["request"], found)
        removed = path in ("object", "object.spec", "object.spec.initContainers")
        assert removed or not found.allowed, found.body


def test_a_malformed_object_says_where() -> None:
    sent = review(pod(os={"name": 7}))
    error = outcome("validate", json.dumps(sent).encode())
    assert isinstance(error, BadReview)
    assert str(error) == "request.object: spec.os.name: expected `str | null`, got `int`"


@pytest.mark.parametrize("first", [True, False])
def test_duplicate_keys(first: bool) -> None:
    """The last one counts, as it does for API servers; they never send two."""
    bad, good = '{"privileged":true}', '{"privileged":false}'
    one, other = (bad, good) if first else (good, bad)
    text = json.dumps(review(pod(containers=[container(securityContext="?")])))
    doubled = text.replace(
        '"securityContext": "?"', f'"securityContext": {one}, "securityContext": {other}'
    )
    assert doubled != text
    found = outcome("validate", doubled.encode())
    assert isinstance(found, Answer)
    privileged = any(violation.rule == "no-privileged" for violation in found.violations)
    assert privileged is not first


@pytest.mark.parametrize("webhook", WEBHOOKS)
@pytest.mark.parametrize(
    "place", ["metadata", "spec", "nodeSelector", "volumes", "unknown", "securityContext"]
)
def test_deep_nesting(webhook: Webhook, place: str) -> None:
    value = pod(initContainers=[PRIVILEGED])
    (value if place in value else value["spec"])[place] = "?"
    text = json.dumps(review(value))
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        nested = opening * DEEP + "1" + closing * DEEP
        body = text.replace('"?"', nested, 1).encode()
        found = outcome(webhook, body)
        if webhook == "validate":
            assert isinstance(found, BadReview) or not found.allowed


@pytest.mark.parametrize("webhook", WEBHOOKS)
def test_eight_mebibytes(webhook: Webhook) -> None:
    size = 8 * 1024 * 1024
    for value in (
        pod(initContainers=[PRIVILEGED], unknown="x" * (size - 2000)),
        pod(initContainers=[PRIVILEGED], containers=[container("x" * (size - 2000))]),
        pod(initContainers=[PRIVILEGED], containers=[{}] * (size // 8)),
        pod(initContainers=[PRIVILEGED], containers=[{}] * 999),
        pod(initContainers=[PRIVILEGED], volumes=[{"name": "x"}] * (size // 20)),
        pod(initContainers=[PRIVILEGED], volumes=[{"name": "x", "x": 1}] * (size // 30)),
        pod(initContainers=[PRIVILEGED], nodeSelector={str(n): "" for n in range(size // 16)}),
    ):
        sent = review(value)
        body = json.dumps(sent).encode()
        found = outcome(webhook, body)
        if isinstance(found, Answer):
            assert len(found.body) < size
            assert webhook == "mutate" or not found.allowed


@pytest.mark.parametrize(
    "text", [r"\ud800", r"\udfff\ud800", r"\u0000", r"\u2028\u202e", r"\n\r\u001b[31m"]
)
@pytest.mark.parametrize("webhook", WEBHOOKS)
def test_text_that_is_hard_to_show(webhook: Webhook, text: str) -> None:
    """Lone surrogates, NUL, line breaks, terminal sequences: in names, images and annotations."""
    value = pod(
        initContainers=[{**PRIVILEGED, "name": "?", "image": "?"}],
        containers=[container("a?"), container("b", image="app:?")],
        volumes=[{"name": "?", "?": {}}],
    )
    value["metadata"] = {
        "name": "?",
        "annotations": {"?": "?", "batten.dev/writable-paths": "/?,?:/x"},
    }
    body = json.dumps(review(value)).replace("?", text).encode()
    found = outcome(webhook, body)
    if isinstance(found, Answer):
        sent = json.loads(body)
        assert_accepted(webhook, sent["request"], found)
        assert webhook == "mutate" or not found.allowed


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 4000, "1e-400", "0.1", "-0", "2e0"])
@pytest.mark.parametrize(
    "place", ["terminationGracePeriodSeconds", "securityContext.runAsUser", "port", "unknown"]
)
def test_numbers_beyond_measure(number: str, place: str) -> None:
    value = pod(initContainers=[PRIVILEGED])
    if place == "port":
        value["spec"]["containers"][0]["ports"] = [{"hostPort": "?"}]
    elif place == "securityContext.runAsUser":
        value["spec"]["securityContext"] = {"runAsUser": "?"}
    else:
        value["spec"][place] = "?"
    body = json.dumps(review(value)).replace('"?"', number).encode()
    outcome("mutate", body)
    assert_not_allowed(body)


def test_errors_are_short_and_repeat_no_megabytes() -> None:
    value = pod()
    value["spec"]["x" * 100_000] = value["spec"].pop("containers")
    value["spec"]["nodeSelector"] = {"y" * 100_000: 7}
    error = outcome("validate", json.dumps(review(value)).encode())
    assert isinstance(error, BadReview)
    assert len(str(error)) < 1000


@pytest.mark.parametrize("old", ["none", "the same template"])
def test_what_is_said_of_a_large_template_costs_as_much_as_its_size(old: str) -> None:
    """Ten times as many containers: not a hundred times the work."""

    def work(containers: int) -> None:
        fields: Any = {"securityContext": {"privileged": old != "none"}}
        many = [container(f"c{number}", **fields) for number in range(containers)]
        value = deployment(pod(containers=many))
        before = {**value, "metadata": {"name": "old"}}
        sent = review(value) if old == "none" else review(value, before, operation="UPDATE")
        assert respond("validate", json.dumps(sent).encode(), under(HARDENED)).allowed

    assert growth(work, 100, 1_000) < 30
