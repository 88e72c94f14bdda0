"""What many policies and exceptions add to a review: as many as a large company may have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

from batten_webhooks.governance import Exemption, Governance, GoverningPolicy
from batten_webhooks.review import Known, Webhook, respond
from batten_webhooks.rules import RULES
from batten_webhooks.selectors import selector
from bench import reviews
from bench.engine import microseconds

MANY = 1_000
NOW = 1_800_000_000.0
LABELS = {"kubernetes.io/metadata.name": reviews.NAMESPACE, "tier": "production"}
REVIEWS: tuple[tuple[str, Webhook, bytes], ...] = (
    ("mutate", "mutate", reviews.plain()),
    ("validate", "validate", reviews.hardened()),
    ("validate, refused", "validate", reviews.plain()),
)


@dataclass(frozen=True, slots=True)
class Added:
    """Microseconds of one review, with the one policy alone and among many."""

    name: str
    alone: float
    among: float


def added(rounds: int) -> list[Added]:
    one = _known(Governance(reviews.POLICY, [GoverningPolicy("all", reviews.POLICY, priority=-1)]))
    many = _known(Governance(reviews.POLICY, policies(), exemptions()))
    return [
        Added(name, *_turns(webhook, body, (one, many), rounds)) for name, webhook, body in REVIEWS
    ]


def policies() -> list[GoverningPolicy]:
    """Half of them for some Pods of the review's namespace, half for other namespaces; what governs
    is the last of all, so that nothing is found early."""
    here = selector({"tier": "production"})
    some = [
        GoverningPolicy(
            f"some-{number}", reviews.POLICY, number, here, selector({"app": f"other-{number}"})
        )
        for number in range(MANY // 2)
    ]
    elsewhere = [
        GoverningPolicy(
            f"elsewhere-{number}", reviews.POLICY, number, selector({"team": f"{number}"})
        )
        for number in range(MANY // 2 - 1)
    ]
    return [*some, *elsewhere, GoverningPolicy("all", reviews.POLICY, priority=-1)]


def exemptions() -> list[Exemption]:
    """All in the review's namespace and for every rule in turn, none of them for its Pod."""
    return [
        Exemption(
            f"exception-{number}",
            frozenset((reviews.NAMESPACE,)),
            frozenset((RULES[number % len(RULES)].name,)),
            "a reason",
            NOW + 86_400 * 90,
            pods=selector({"app": f"other-{number}"} if number % 2 else {}),
            containers=frozenset(() if number % 2 else (f"other-{number}",)),
        )
        for number in range(MANY)
    ]


def _known(governance: Governance) -> Known:
    return Known(governance, NOW, {reviews.NAMESPACE: LABELS})


def _turns(
    webhook: Webhook, body: bytes, knowns: tuple[Known, Known], rounds: int
) -> Iterator[float]:
    """They take turns, so that both have the same neighbours."""
    timed = [
        [microseconds(partial(respond, webhook, body, known)) for known in knowns]
        for _ in range(rounds)
    ]
    return (median(column) for column in zip(*timed, strict=True))
