"""What the load generator makes of an answer, and of many."""

from __future__ import annotations

from typing import Any

import pytest
from batten_e2e import Kubectl
from batten_load import Answer, Load, outcome

DENIED = {"message": 'admission webhook "pods.validate.batten.dev" denied the request: Pod "load"'}
FORBIDDEN = {"message": 'pods is forbidden: User "jane" cannot create resource "pods"'}


def made(**security: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "app", "securityContext": security or None}]}}


@pytest.mark.parametrize(
    ("status", "body", "unsafe", "what"),
    [
        (201, made(readOnlyRootFilesystem=True), False, "hardened"),
        (201, made(), False, "unhardened"),
        (201, made(readOnlyRootFilesystem=True), True, "let in"),
        (403, DENIED, True, "refused"),
        (403, DENIED, False, "held"),
        (403, FORBIDDEN, True, "failed"),
        (500, {"message": "failed calling webhook"}, False, "failed"),
        (0, {"message": "TimeoutError"}, False, "failed"),
    ],
)
def test_an_outcome(status: int, body: dict[str, Any], unsafe: bool, what: str) -> None:
    assert outcome(status, body, unsafe=unsafe) == what


def test_figures_are_of_what_was_answered_rightly() -> None:
    load = Load(Kubectl("kubectl", "none"), "shop", 100)
    load.answers = [Answer(at / 100, 0.004, "hardened") for at in range(101)]
    dial = "failed calling webhook: dial tcp 10.96.0.7:443: connect: connection refused"
    load.answers += [Answer(0.2, 5.0, "failed", dial), Answer(0.5, 5.0, "failed", dial)]
    assert load.rate() == 102.0
    assert load.milliseconds() == (4.0, 4.0)
    assert load.span("failed", "held") == pytest.approx(0.3)
    told = "failed calling webhook: dial tcp …: connect: connection refused"
    assert load.failures() == {told: 2}
