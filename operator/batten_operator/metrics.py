"""Prometheus metrics. Every label has a bounded set of values, whatever is sent to us."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from batten_webhooks.review import Answer, Webhook
from batten_webhooks.rules import BY_NAME

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"
OPERATIONS = frozenset(("CREATE", "UPDATE", "DELETE", "CONNECT"))
EXCEPTED = "Excepted"
# One review takes about a tenth of a millisecond; what takes a second is near the deadline.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0)


class Metrics:
    """`kinds` are the names of the kinds that are told apart; all others are `other`."""

    def __init__(self, registry: CollectorRegistry, kinds: Iterable[str]) -> None:
        self._registry = registry
        self._kinds = frozenset(kinds)
        disable_created_metrics()  # a second time series for each, which nobody asks for
        self._reviews = Counter(
            "batten_admission_reviews",
            "Reviews answered.",
            ("webhook", "operation", "kind", "decision"),
            registry=registry,
        )
        self._duration = Histogram(
            "batten_admission_review_duration_seconds",
            "Time from a review's headers to its answer.",
            ("webhook",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._violations = Counter(
            "batten_rule_violations",
            "Violations found in reviewed objects, by what they led to.",
            ("rule", "action"),
            registry=registry,
        )
        self._errors = Counter(
            "batten_admission_errors",
            "Requests answered with an HTTP error, so that the failurePolicy decided.",
            ("reason",),
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            "batten_certificate_expiry_timestamp_seconds",
            "When the certificate that is served expires.",
            registry=registry,
        )
        Info("batten_build", "What runs here.", registry=registry).info(
            {"version": version("batten"), "python": sys.version.split()[0]}
        )
        # labels() takes a lock and hashes strings on each call; a known child is one look-up.
        self._known: dict[tuple[str, str, str, str], Counter] = {}
        self._durations: dict[str, Histogram] = {
            webhook: self._duration.labels(webhook) for webhook in ("mutate", "validate")
        }

    def answered(self, webhook: Webhook, answer: Answer, seconds: float) -> None:
        decision = "allowed" if answer.allowed else "denied"
        operation = answer.operation if answer.operation in OPERATIONS else OTHER
        kind = answer.kind if answer.kind in self._kinds else OTHER
        key = (webhook, operation, kind, decision)
        child = self._known.get(key)
        if child is None:
            child = self._known[key] = self._reviews.labels(*key)
        child.inc()
        self._durations[webhook].observe(seconds)
        for violation in answer.violations:
            rule = violation.rule if violation.rule in BY_NAME else OTHER
            for action in (EXCEPTED,) if violation.exception else violation.actions:
                self._violations.labels(rule, action).inc()

    def failed(self, reason: str) -> None:
        """`reason` is a word of the server's own, never of a request's."""
        self._errors.labels(reason).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)
