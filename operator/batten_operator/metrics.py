"""Prometheus metrics. Every label has a bounded set of values, whatever is sent to us."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

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

from batten_webhooks.audit import Audit
from batten_webhooks.governance import EXPIRES_SOON, Exemption, Governance
from batten_webhooks.review import Answer
from batten_webhooks.rules import BY_NAME

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"
WEBHOOKS = ("mutate", "validate", "namespaces", "resources")
OWN_KINDS = frozenset(
    (
        "Namespace",
        "HardeningPolicy",
        "HardeningException",
        "ControllerRevision",
        "ImageProfile",
        "ImageScan",
        "VulnerabilityReport",
        "ClusterVulnerabilityReport",
    )
)
OPERATIONS = frozenset(("CREATE", "UPDATE", "DELETE", "CONNECT"))
EXCEPTED = "Excepted"
# One review takes about a tenth of a millisecond; what takes a second is near the deadline.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0)


class Metrics:
    """`kinds` are the names of the kinds that are told apart; all others are `other`."""

    def __init__(self, registry: CollectorRegistry, kinds: Iterable[str]) -> None:
        self._registry = registry
        self._kinds = OWN_KINDS.union(kinds)
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
        self._lookups = Counter(
            "batten_image_lookups",
            "Tags that were asked for at registries, by what came of it.",
            ("outcome",),
            registry=registry,
        )
        self._cloud_credentials = Counter(
            "batten_cloud_credentials",
            "Credentials asked for as the operator's cloud identity: granted, or failed.",
            ("registry", "outcome"),
            registry=registry,
        )
        self._policies = Gauge("batten_policies", "HardeningPolicies in force.", registry=registry)
        self._exceptions = Gauge(
            "batten_exceptions",
            "HardeningExceptions: active, expiring within 14 days, or expired.",
            ("state",),
            registry=registry,
        )
        self._expiries = Gauge(
            "batten_exception_expiry_timestamp_seconds",
            "When each HardeningException ends.",
            ("exception",),
            registry=registry,
        )
        self._workloads = Gauge(
            "batten_workloads",
            "Workloads of the cluster by what they would meet if they were created again.",
            ("outcome",),
            registry=registry,
        )
        self._audited = Gauge(
            "batten_audit_timestamp_seconds",
            "When the cluster's workloads were last judged.",
            registry=registry,
        )
        self._images = Gauge(
            "batten_running_images",
            "Images that run where scans are asked for: passed, refused, missing (no scan counts)"
            " or unknown yet.",
            ("scan",),
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
            webhook: self._duration.labels(webhook) for webhook in WEBHOOKS
        }

    def answered(self, webhook: str, answer: Answer, seconds: float) -> None:
        self._reviewed(webhook, answer.operation, answer.kind, answer.allowed, seconds)
        for violation in answer.violations:
            rule = violation.rule if violation.rule in BY_NAME else OTHER
            for action in (EXCEPTED,) if violation.exception else violation.actions:
                self._violations.labels(rule, action).inc()

    def answered_own(
        self, review: dict[str, Any], response: dict[str, Any], seconds: float
    ) -> None:
        """A review of one of our own kinds and kopf's response, as they are sent."""
        request = review["request"]
        operation = str(request.get("operation"))
        kind = str((request.get("kind") or {}).get("kind"))
        allowed = bool(response["response"]["allowed"])
        self._reviewed("resources", operation, kind, allowed, seconds)

    def _reviewed(
        self, webhook: str, operation: str, kind: str, allowed: bool, seconds: float
    ) -> None:
        decision = "allowed" if allowed else "denied"
        operation = operation if operation in OPERATIONS else OTHER
        kind = kind if kind in self._kinds else OTHER
        key = (webhook, operation, kind, decision)
        child = self._known.get(key)
        if child is None:
            child = self._known[key] = self._reviews.labels(*key)
        child.inc()
        self._durations[webhook].observe(seconds)

    def governed(self, governance: Governance) -> None:
        """What governs from now on."""
        now = time.time()
        self._policies.set(len(governance.policies))
        self._expiries.clear()
        for exemption in governance.exemptions:
            self._expiries.labels(exemption.name).set(exemption.expires)
        for state, count in exception_states(governance.exemptions, now).items():
            self._exceptions.labels(state).set(count)

    def audited(self, audit: Audit) -> None:
        """The controller's last look at the cluster."""
        for outcome, count in audit.totals().items():
            self._workloads.labels(outcome).set(count)
        self._audited.set(audit.at.timestamp())

    def scanned(self, standings: Mapping[str, int]) -> None:
        """What the controller's last look knows of the images that run."""
        for standing, count in standings.items():
            self._images.labels(standing).set(count)

    def may_fail(self, reasons: Iterable[str]) -> None:
        """Each is counted from 0 on, so that the first one is an increase to whoever watches."""
        for reason in reasons:
            self._errors.labels(reason)

    def failed(self, reason: str) -> None:
        """`reason` is a word of the server's own, never of a request's."""
        self._errors.labels(reason).inc()

    def looked_up(self, outcome: str) -> None:
        """`outcome` is `resolved` or the Reason of a RegistryError."""
        self._lookups.labels(outcome).inc()

    def cloud_credential(self, registry: str, outcome: str) -> None:
        """`registry` is one of the administrator's list, `outcome` is `granted` or `failed`."""
        self._cloud_credentials.labels(registry, outcome).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)


def exception_states(exemptions: tuple[Exemption, ...], now: float) -> dict[str, int]:
    """How many exceptions hold, hold but end soon, and have ended."""
    counts = {"active": 0, "expiring": 0, "expired": 0}
    for exemption in exemptions:
        left = exemption.expires - now
        state = "expired" if left <= 0 else "expiring" if left < EXPIRES_SOON else "active"
        counts[state] += 1
    return counts
