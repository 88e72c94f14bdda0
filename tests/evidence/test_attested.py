"""What attestations whose signatures hold become, for whoever judges them."""

from __future__ import annotations

from typing import Any

import pytest

from batten_webhooks.evidence.attestations import model
from batten_webhooks.evidence.attested import outcomes, trusts
from batten_webhooks.evidence.model import ScanEvidence, Vex
from batten_webhooks.evidence.scans import Found, Rejected
from batten_webhooks.rules.scanned_image import Source

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
    return outcomes(model.Found((verified(kind, predicate),)))


def verified(kind: str, predicate: Any) -> model.Verified:
    return model.Verified(kind, predicate, frozenset((DIGEST,)), f"sha256:{'b' * 64}")


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
    assert told.origin == "attestation sha256:bbbbbbbbbbbb…"
    assert told.why.startswith("is no ")


def test_what_does_not_count_is_told_with_its_reason() -> None:
    forged = model.Rejected("forged", "attestation sha256:0123… is not signed with the trusted key")
    unsigned = model.Rejected("unsigned", "attestation sha256:4567… has no signature")
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


def test_what_one_of_several_vouches_for_counts() -> None:
    told = "attestation sha256:bbbbbbbbbbbb… is signed by an identity that is not trusted"
    by_others = model.Found((), (model.Rejected("forged", told),))
    by_one = model.Found((verified(VULNS, SCAN),))
    for found in (outcomes(by_others, by_one), outcomes(by_one, by_others, by_one)):
        assert [type(each) for each in found] == [Found]
    assert len(outcomes(by_others, by_others)) == 1


def test_keys_are_trusted_together_and_each_identity_by_itself() -> None:
    pem = "-----BEGIN PUBLIC KEY-----"
    sources = [
        Source("ImageScan"),
        Source("Attestation", keys=(pem, f"{pem}2")),
        Source("Attestation", keys=(pem,), issuer="https://issuer", identity="ci"),
        Source("Attestation", issuer="https://issuer", identity="release"),
    ]
    assert trusts(sources) == (
        model.Trust((pem, f"{pem}2"), "https://issuer", "ci"),
        model.Trust((), "https://issuer", "release"),
    )
    assert trusts(sources[:2]) == (model.Trust((pem, f"{pem}2")),)
    assert trusts(sources[:1]) == ()
