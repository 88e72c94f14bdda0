"""What was asked for once is at hand: a decision that was made before costs no request."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import aiohttp
import pytest
from batten_dsse import Signer
from batten_e2e import Kubectl, Namespace, eventually, new_namespace, pod
from batten_install import Installation
from batten_registry import Registry
from batten_scanned import COSIGN_VULN, attest, cosign_vuln, image_scan, policy, pushed, report
from batten_serving import pod_review
from batten_session import Session

pytestmark = pytest.mark.cluster

REVIEWS = 100
OPERATOR = "system:serviceaccount:batten-system:batten"
# Leases, watches and what the controller looks at go on by themselves.
ASKED_FOR_A_REVIEW = {"secrets", "serviceaccounts", "replicasets", "controllerrevisions"}


async def reviewed(operator: Installation, namespace: Namespace, image: str) -> list[bool]:
    """As the API server asks, one after another."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    containers = [{"name": "app", "image": image, "resources": {}}]
    allowed = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as client:
        for number in range(REVIEWS):
            review = pod_review(uid=f"00000000-0000-0000-0000-{number:012}", containers=containers)
            review["request"]["namespace"] = namespace.name
            review["request"]["object"]["metadata"]["namespace"] = namespace.name
            async with client.post(f"{operator.url}/validate", json=review) as answer:
                allowed.append((await answer.json())["response"]["allowed"])
    return allowed


def asked_of_the_api_server(batten: Session) -> int:
    events = map(json.loads, batten.plane.audit_log.read_text().splitlines())
    return sum(
        event["user"]["username"] == OPERATOR
        and event["verb"] == "get"
        and event["objectRef"].get("resource") in ASKED_FOR_A_REVIEW
        for event in events
        if "objectRef" in event
    )


def test_a_warm_decision_costs_no_request(
    batten: Session, operator: Installation, kubectl: Kubectl, plain: Registry
) -> None:
    signer = Signer.fresh()
    sources: list[dict[str, Any]] = [
        {"kind": "ImageScan"},
        {"kind": "VulnerabilityReport", "namespaces": ["warm"]},
        {"kind": "Attestation", "keys": [signer.public]},
    ]
    with new_namespace(kubectl, "warm", {"scans": "warm"}) as namespace:
        image = pushed(plain, "warm")
        attest(image, signer, (COSIGN_VULN, cosign_vuln(image)))
        values = [
            policy("warm", sources=sources),
            image_scan(image),
            report(image, namespace="warm"),
        ]
        namespace.apply(*values).require()
        value = json.dumps(pod(containers=[{"name": "app", "image": image.tagged}]))
        create = ("create", "--dry-run=server", "-f", "-", "-o", "json")

        def governs() -> bool | None:
            done = namespace.kubectl(*create, stdin=value)
            return (done.code == 0 and image.index in done.stdout) or None

        eventually(governs, "its policy governs, and its scans count")
        asyncio.run(reviewed(operator, namespace, image.pinned))
        before = plain.log.read_text().count("/v2/"), asked_of_the_api_server(batten)
        assert before[0] > 0
        assert asyncio.run(reviewed(operator, namespace, image.pinned)) == [True] * REVIEWS
        assert (plain.log.read_text().count("/v2/"), asked_of_the_api_server(batten)) == before
    kubectl("delete", "hardeningpolicy", "warm").require()
