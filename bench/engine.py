"""The engine alone, in this process: what one review costs, and where the time goes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import msgspec

from batten_webhooks.engine import evaluate
from batten_webhooks.review import PodReview, Webhook, respond, under
from batten_webhooks.workload import PodTemplate, Workload, read_pod
from bench import reviews

BATCH = 200


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of processor time; `answer` is what is left: patch, messages, encoding."""

    name: str
    size: int
    total: float
    decode: float
    evaluate: float

    @property
    def answer(self) -> float:
        return self.total - self.decode - self.evaluate


def costs(rounds: int) -> list[Cost]:
    """As the operator runs it, with what was loaded at start kept from the garbage collector."""
    gc.collect()
    gc.freeze()
    plain, hardened = reviews.plain(), reviews.hardened()
    changes = len(reviews.patch())
    return [
        _cost(f"mutate, a Pod that needs {changes} changes", "mutate", plain, rounds),
        _cost("validate, the Pod as changed", "validate", hardened, rounds),
        _cost("validate, a Pod that is refused", "validate", plain, rounds),
    ]


def _cost(name: str, webhook: Webhook, body: bytes, rounds: int) -> Cost:
    decoder = msgspec.json.Decoder(PodReview)
    known = under(reviews.POLICY)

    def read() -> Workload:
        return read_pod(decoder.decode(body).request.object or PodTemplate())

    pod = read()
    parts: tuple[Callable[[], object], ...] = (
        lambda: respond(webhook, body, known),
        read,
        lambda: evaluate(pod, reviews.POLICY, judge=webhook == "validate"),
    )
    timed = [[microseconds(part) for part in parts] for _ in range(rounds)]
    total, decode, judge = (median(column) for column in zip(*timed, strict=True))
    return Cost(name, len(body), total, decode, judge)


def microseconds(work: Callable[[], object]) -> float:
    """Processor time of one call: what other programs do meanwhile does not count."""
    started = time.thread_time_ns()
    for _ in range(BATCH):
        work()
    return (time.thread_time_ns() - started) / BATCH / 1000
