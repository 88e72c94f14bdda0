"""What attestations whose signatures hold become, for whoever judges them."""

from __future__ import annotations

from typing import Any

import pytest

from batten_webhooks.evidence.attestations import model
from batten_webhooks.evidence.attested import outcomes
from batten_webhooks.evidence.model import ScanEvidence, Vex
from batten_webhooks.evidence.scans import Found, Rejected

DIGEST = f"sha256:{'a' * 64}"
VULNS = "https://in-toto.io/attestation/vulns/v0.2"
SCAN = {
    "scanner": {"uri": "pkg:github/aquasecurity/trivy@1.0.0", "result": [{"id": "CVE-2026-1"}]},
    "metadata": {"scanFinishedOn": "2026-07-01T00:00:00Z"},
}
VEX = {
    "@context": "https://openvex.dev/ns/v0.2.0",
    "statements": [{"vulnerability": {"name": "CVE-2026-1"}, "status": "not_affected"}],
}


def of(kind: str, predicate: Any) -> list[Found | Rejected]:
    verified = model.Verified(kind, predicate, frozenset((DIGEST,)))
    return outcomes(model.Found((verified,)))


@pytest.mark.parametrize(
    ("kind", "predicate", "shape"),
    [(VULNS, SCAN, ScanEvidence), ("https://openvex.dev/ns/v0.2.0", VEX, Vex)],
)
def test_what_tells_of_vulnerabilities_is_found_for_its_subjects(
    kind: str, predicate: Any, shape: type
) -> None:
    (found,) = of(kind, predicate)
    assert isinstance(found, Found)
    assert isinstance(found.document, shape)
    assert found.document.digests == {DIGEST}


def test_what_is_no_evidence_is_passed_over() -> None:
    assert of("https://slsa.dev/provenance/v1", {"buildDefinition": {}}) == []
    assert of("https://spdx.dev/Document", {"spdxVersion": "SPDX-2.3"}) == []


@pytest.mark.parametrize("predicate", [None, [], "text", {"scanner": {"result": 5}}])
def test_a_predicate_that_is_not_what_its_type_says_is_told(predicate: Any) -> None:
    (told,) = of(VULNS, predicate)
    assert isinstance(told, Rejected)
    assert told.flaw == "unreadable"
    assert f"{told.origin} {told.why}".startswith(f"attestation {VULNS} is no ")


def test_what_does_not_count_is_told_with_its_reason() -> None:
    forged = model.Rejected("forged", "sha256:0123… is not signed with the trusted key")
    unsigned = model.Rejected("unsigned", "sha256:4567… has no signature")
    found = outcomes(model.Found((), (forged, unsigned), ("tag x: the registry answers 500",)))
    assert found == [
        Rejected("attestation sha256:0123…", "forged", "is not signed with the trusted key"),
        Rejected("attestation sha256:4567…", "forged", "has no signature"),
        Rejected(
            "what is beside the image",
            "unavailable",
            "was not read whole: tag x: the registry answers 500",
        ),
    ]
