"""What of ImageScans and sources is refused where it is applied, and what of them is told."""

from __future__ import annotations

import pytest
from batten_scans import AMD64, INDEX, evidence, scans, vulnerability

from batten_webhooks.evidence.scans import Rejected, Scans
from batten_webhooks.resources import Invalid, read_image_scan, read_policy
from batten_webhooks.resources.image_scan import image_scan
from batten_webhooks.rules import scanned_image
from batten_webhooks.rules.rule import VERSIONS, Context, Facts
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import read_object


@pytest.mark.parametrize("name", ["sha256:abc", "latest", f"sha256:{'A' * 64}", f"{INDEX}\n"])
def test_what_is_no_digest_is_told_of_one(name: str) -> None:
    value = image_scan("a", "app", evidence(now=1_780_000_000.0))
    value["spec"]["digests"] = [name]
    with pytest.raises(Invalid, match=r"spec\.digests\[0\]: must be a digest: sha256: and 64"):
        read_image_scan(value)


@pytest.mark.parametrize("field", ["users", "namespaces"])
@pytest.mark.parametrize("name", ["", " "])
def test_a_source_trusts_nobody_without_a_name(field: str, name: str) -> None:
    """Who wrote what is older than the webhook is not known, and has the same empty name."""
    source = {"kind": "VulnerabilityReport", "users": ["jane"], field: ["jane", name]}
    spec = {"rules": {"scanned-image": {"sources": [source]}}}
    policy = {"apiVersion": "batten.dev/v1alpha1", "kind": "HardeningPolicy", "spec": spec}
    with pytest.raises(Invalid, match=rf"sources\[0\]\.{field}: must not hold an empty name"):
        read_policy({**policy, "metadata": {"name": "a"}})


def test_no_word_of_others_makes_a_refusal_long_or_forges_its_lines() -> None:
    """A user's name is whatever his certificate says; an ImageScan holds what its writer likes."""
    image = f"registry.example/app@{INDEX}"
    long = "x" * 500
    bad = [vulnerability(f"CVE-{at}-{long}", package=long, fixed_in=long) for at in range(30)]
    now = 1_780_000_000.0
    forged = f"was written by eve\n\x1b[31m{long}, whom the policy does not trust"
    for found in (
        scans(evidence(*bad, now=now)),
        Scans(INDEX, (AMD64,), rejected=(Rejected('ImageScan "a"', "forged", forged),) * 30),
    ):
        facts = Facts(scans={image: found}, now=now)
        spec = {"containers": [{"name": "app", "image": image}]}
        workload = read_object({"apiVersion": "v1", "kind": "Pod", "spec": spec})
        assert workload is not None
        context = Context(facts, VERSIONS[-1])
        (told,) = scanned_image.RULE.check(workload, scanned_image.Parameters(), context)
        assert isinstance(told, Finding)
        for text in (told.detail, told.remedy):
            assert text.isprintable()
            assert len(text) < 2500
