"""What of ImageScans and sources is refused where it is applied."""

from __future__ import annotations

import pytest
from batten_scans import INDEX, evidence

from batten_webhooks.resources import Invalid, read_image_scan, read_policy
from batten_webhooks.resources.image_scan import image_scan


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
