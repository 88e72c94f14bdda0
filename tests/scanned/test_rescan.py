"""What runs is judged again and again: an image whose scan turns bad or ages out is told of, and
its Pods go on running."""

from __future__ import annotations

import json
import ssl
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from batten_e2e import Kubectl, Namespace, Output, eventually, new_namespace, pod
from batten_install import Installation
from batten_pinning import workload
from batten_registry import Registry
from batten_reports import REPORTS
from batten_scanned import Json, cve, image_scan, policy, pushed

pytestmark = pytest.mark.cluster

# The controller looks once a minute where nothing wakes it.
PATIENCE = 150.0
METRIC = 'batten_running_images{scan="refused"}'


@contextmanager
def governed(kubectl: Kubectl, **scanned: Any) -> Iterator[Namespace]:
    """A Namespace with a policy of its own, which governs it."""
    name = f"rescan-{uuid.uuid4().hex[:8]}"
    kubectl("apply", "-f", "-", stdin=json.dumps(policy(name, **scanned))).require()
    value = json.dumps(pod(containers=[{"name": "x", "image": "127.0.0.1:9/x:1"}]))
    with new_namespace(kubectl, name, {"scans": name}) as namespace:

        def governs() -> bool | None:
            done = namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=value)
            return f'HardeningPolicy "{name}"' in done.stderr or None

        eventually(governs, f"{name} governs")
        yield namespace
    kubectl("delete", "hardeningpolicy", name).require()


def write(namespace: Namespace, scan: Json) -> None:
    namespace.apply(scan).require()


def rollout(namespace: Namespace, tag: str) -> Output:
    """Of the same image under another tag, by a change of the template."""
    patch = {"spec": {"template": {"metadata": {"annotations": {"rollout": tag}}}}}
    return namespace.kubectl("patch", "deployment", "web", "-p", json.dumps(patch))


def told(namespace: Namespace) -> list[str]:
    found = namespace.get("events", "--field-selector=reason=ImageNotAcceptable")["items"]
    assert all(each["involvedObject"]["name"] == "web" for each in found)
    return [each["message"] for each in found]


def reported(namespace: Namespace) -> list[str]:
    """What its report says that fails."""
    results = (each for item in namespace.get(REPORTS)["items"] for each in item["results"])
    return [each["message"] for each in results if each["result"] == "fail"]


def metric(operator: Installation) -> float:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = f"{operator.url}/metrics"
    with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310
        lines = answer.read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{METRIC} ")))


def running(namespace: Namespace, scan: Json, image: str) -> set[str]:
    """A Deployment of it, once its Pods are there; their uids."""
    write(namespace, scan)
    namespace.apply(workload("Deployment", image, replicas=2)).require()
    return {each["metadata"]["uid"] for each in namespace.pods(2)}


def test_a_finding_in_what_runs(operator: Installation, kubectl: Kubectl, plain: Registry) -> None:
    with governed(kubectl) as namespace:
        image = pushed(plain, namespace.name)
        uids = running(namespace, image_scan(image), image.tagged)
        before = metric(operator)
        write(namespace, image_scan(image, cve()))
        (said,) = eventually(lambda: told(namespace) or None, "an event", PATIENCE)
        assert 'container "app": image ' in said
        assert "has a vulnerability that does not pass: CRITICAL CVE-2026-1" in said
        (failed,) = eventually(lambda: reported(namespace) or None, "a report", PATIENCE)
        assert "CRITICAL CVE-2026-1" in failed
        assert metric(operator) == before + 1
        assert {each["metadata"]["uid"] for each in namespace.get("pods")["items"]} == uids
        refused = rollout(namespace, "2")
        assert refused.code == 1
        assert "would create Pods that break 1 rule" in refused.stderr
        # What fails no more is told of no more.
        said_so = [{"vulnerabilities": ["CVE-2026-1"], "status": "not_affected"}]
        write(namespace, image_scan(image, cve(), statements=said_so))
        eventually(lambda: not reported(namespace) or None, "the report is clean", PATIENCE)
        assert rollout(namespace, "2").code == 0
        assert metric(operator) == before


def test_a_scan_that_ages_out(operator: Installation, kubectl: Kubectl, plain: Registry) -> None:
    with governed(kubectl, maxAge="20s") as namespace:
        image = pushed(plain, namespace.name)
        uids = running(namespace, image_scan(image, age=0), image.tagged)
        (said,) = eventually(lambda: told(namespace) or None, "an event", PATIENCE)
        assert "has no scan that counts: ImageScan" in said
        assert "old, and at most 20 seconds are allowed" in said
        eventually(lambda: reported(namespace) or None, "a report", PATIENCE)
        assert {each["metadata"]["uid"] for each in namespace.get("pods")["items"]} == uids
        # Its Pods are refused, and tried again until there is a scan that counts.
        assert "Warning: " in rollout(namespace, "2").require().stderr

        def failed() -> bool | None:
            found = namespace.get("events", "--field-selector=reason=FailedCreate")["items"]
            return (
                any("at most 20 seconds are allowed" in each["message"] for each in found) or None
            )

        eventually(failed, "the new Pods are refused")
        write(namespace, image_scan(image, age=0))

        def there() -> bool | None:
            now = namespace.get("pods")["items"]
            return any(each["metadata"]["uid"] not in uids for each in now) or None

        eventually(there, "a new Pod", 60)
