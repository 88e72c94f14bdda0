"""Who asks for scans, what the Job is, what is made of its output, and how long results are kept.

A scripted API server stands for a cluster; with a real one, and a real node, it is shown in
tests/scanned.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from batten_scans import AMD64, ARM64, INDEX, digest

from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.policies import Policies
from batten_operator.running_scans import PATIENT_LOOKS, UNUSED_SECONDS, RunningScans
from batten_operator.scan_requests import (
    AGAIN_SECONDS,
    MOST_WAITING,
    ScanRequests,
    digest_of,
    name_of,
    request,
)
from batten_operator.scanner import DOCKER_CONFIG, ScanFailed, _evidence, job
from batten_operator.stored_scans import StoredScans
from batten_webhooks.evidence.scans import Platform
from batten_webhooks.inquiry import WantedScan
from batten_webhooks.policy import PRESETS
from batten_webhooks.reference import parse_reference
from batten_webhooks.resources import read_image_scan
from batten_webhooks.workload import TEMPLATE_PATHS

IMAGE = f"registry.example/team/app:1@{INDEX}"
HELD = "held"
NOW = 1_800_000_000.0
WEEK = 7 * 86400.0


def wanted(platform: Platform = AMD64, image: str = IMAGE, secrets: int = 0) -> WantedScan:
    names = tuple(f"secret-{number}" for number in range(secrets))
    return WantedScan(image, INDEX, platform, "trivy", "shop", names)


class Api(Cluster):
    """It remembers what is written, and answers with `error`."""

    def __init__(self, error: ApiError | None = None) -> None:
        super().__init__()
        self.error = error
        self.created: list[Object] = []
        self.deleted: list[str] = []

    async def create(self, path: str, value: Object) -> Object:
        self.created.append(value)
        if self.error is not None:
            raise self.error
        return value

    async def delete(self, path: str) -> Object:
        self.deleted.append(path.rpartition("/")[2])
        if self.error is not None:
            raise self.error
        return {}


# --- requests -----------------------------------------------------------------------------------


def asked(scans: list[WantedScan], api: Api | None = None) -> list[Object]:
    async def main() -> list[Object]:
        found = api or Api()
        requests = ScanRequests(found, WriteBudget(1e9))
        for each in scans:
            requests.want([each])
        task = asyncio.create_task(requests.run())
        for _ in range(5 * MOST_WAITING):
            await asyncio.sleep(0)
        task.cancel()
        return found.created

    return asyncio.run(main())


def test_many_who_want_one_scan_ask_once() -> None:
    assert len(asked([wanted()] * 100)) == 1
    assert len(asked([wanted(), wanted(ARM64)])) == 2


def test_more_than_can_wait_are_dropped() -> None:
    many = [wanted(Platform("linux/amd64", digest(f"m{n}"))) for n in range(MOST_WAITING + 50)]
    assert len(asked(many)) == MOST_WAITING


@pytest.mark.parametrize("status", [0, 403, 409, 422, 500])
def test_one_that_cannot_be_asked_for_holds_up_no_other(status: int) -> None:
    api = Api(ApiError("POST: no", status))
    assert len(asked([wanted(), wanted(ARM64)], api)) == 2


def test_what_was_asked_for_long_ago_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> int:
        requests = ScanRequests(Api(), WriteBudget(1e9))
        requests.want([wanted()])
        monkeypatch.setattr(time, "monotonic", lambda: later)
        requests.want([wanted()])
        return requests._waiting.qsize()

    later = time.monotonic() + AGAIN_SECONDS + 1
    assert asyncio.run(main()) == 2


def test_a_repository_of_ones_own_holds_up_nobody() -> None:
    mine, theirs = (name_of(f"{name}:1", AMD64.manifest) for name in ("a.example/x", "b.example/x"))
    assert mine != theirs
    assert digest_of(mine) == digest_of(theirs) == AMD64.manifest
    assert name_of("a.example/x:1", AMD64.manifest) == name_of(
        f"a.example/x:2@{INDEX}", AMD64.manifest
    )


@pytest.mark.parametrize("name", ["web", "sha256-abc", AMD64.manifest.replace(":", "-"), ""])
def test_other_names_say_no_digest(name: str) -> None:
    assert digest_of(name) == ""


def test_a_request_is_valid() -> None:
    value = request(wanted(secrets=50))
    scan = read_image_scan(value)
    assert scan.evidence is None
    assert scan.request is not None
    assert len(scan.request.pull_secrets) == 32
    assert scan.digests == {INDEX, *AMD64.digests}


# --- the Job ------------------------------------------------------------------------------------


def scan_of(**spec: Any) -> Any:
    value = request(wanted())
    value["spec"] |= spec
    return read_image_scan(value)


TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "trivy"}, "annotations": {"a": "b"}, "name": "x"},
    "spec": {
        "restartPolicy": "Always",
        "serviceAccountName": "scanner",
        "containers": [
            {
                "name": "scan",
                "image": "trivy",
                "args": ["$(BATTEN_IMAGE)"],
                "env": [
                    {"name": "BATTEN_IMAGE", "value": "mine"},
                    {"name": "CACHE", "value": "/c"},
                ],
            }
        ],
    },
}


def test_the_job_scans_the_platform_by_its_digest() -> None:
    reference = parse_reference(IMAGE)
    made = job("batten-scan-x", TEMPLATE, reference, scan_of(), secret="")
    spec = made["spec"]["template"]["spec"]
    assert spec["containers"][0]["env"] == [
        {"name": "BATTEN_IMAGE", "value": f"registry.example/team/app@{AMD64.manifest}"},
        {"name": "BATTEN_PLATFORM", "value": "linux/amd64"},
        {"name": "CACHE", "value": "/c"},
    ]
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"]) == ("Never", False)
    assert made["spec"]["backoffLimit"] == 0
    assert "volumes" not in spec
    assert all(len(text) <= 63 for text in made["metadata"]["labels"].values())
    assert TEMPLATE["spec"]["restartPolicy"] == "Always"  # it is nobody's but the administrator's


def test_credentials_are_a_file_of_dockers() -> None:
    made = job("batten-scan-x", TEMPLATE, parse_reference(IMAGE), scan_of(), secret=HELD)
    spec = made["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert {"name": "DOCKER_CONFIG", "value": DOCKER_CONFIG} in container["env"]
    (mount,) = container["volumeMounts"]
    (volume,) = spec["volumes"]
    assert (mount["mountPath"], mount["readOnly"]) == (DOCKER_CONFIG, True)
    assert volume["secret"]["secretName"] == HELD


# --- what it printed ----------------------------------------------------------------------------

REPORT = {
    "SchemaVersion": 2,
    "ArtifactType": "container_image",
    "CreatedAt": "2026-01-02T03:04:05Z",
    "Metadata": {"ImageID": AMD64.configuration, "RepoDigests": [f"app@{AMD64.manifest}"]},
    "Results": [{"Class": "os-pkgs"}],
}
PRETTY, PLAIN = json.dumps(REPORT, indent=2), json.dumps(REPORT)


@pytest.mark.parametrize(
    "printed",
    [
        PRETTY,
        PLAIN,
        f"INFO begins\n{PRETTY}\nINFO ends\n",
        f"INFO begins\n{PLAIN}\nINFO ends\n",
        f"{PRETTY}\r\n",
    ],
)
def test_lines_around_it_are_passed_over(printed: str) -> None:
    found = _evidence(printed.encode(), scan_of(), AMD64.manifest)
    assert found.digests == AMD64.digests


def test_it_is_of_what_was_scanned_whatever_was_asked_for() -> None:
    """Who may write ImageScans, and is not believed, cannot have us vouch for another image."""
    other = digest("other")
    asked_for = scan_of(digests=[other, AMD64.manifest])
    assert other not in _evidence(PRETTY.encode(), asked_for, AMD64.manifest).digests
    nameless = {**REPORT, "Metadata": {}}
    found = _evidence(json.dumps(nameless).encode(), asked_for, AMD64.manifest)
    assert found.digests == {AMD64.manifest}


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ("", "is no JSON"),
        ("all is well", "is no JSON"),
        ("{}", "is in no format"),
        ('{"a": 1}\n{"b": 2}', "is in no format"),
        ("{" * 5000, "is no JSON"),
        (PRETTY.replace(AMD64.manifest, INDEX[:-1] + "f").replace(
            AMD64.configuration, INDEX[:-1] + "e"), "is of another image"),
    ],
)  # fmt: skip
def test_what_is_no_scan_of_it(printed: str, why: str) -> None:
    with pytest.raises(ScanFailed) as caught:
        _evidence(printed.encode(), scan_of(), AMD64.manifest)
    assert why in str(caught.value)


# --- what runs ----------------------------------------------------------------------------------


def kept(monkeypatch: pytest.MonkeyPatch, age: float, *, used: bool, **said: Any) -> list[str]:
    """Which were deleted, at NOW and an hour after."""
    scans = StoredScans(Api())
    spec: dict[str, Any] = {**said}
    if age >= 0:
        spec |= {
            "scanner": {"name": "trivy"},
            "scannedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - age)),
        }
    scan = scan_of(**spec)
    scans.requests[scan.name] = scan
    running = RunningScans(None, Policies(PRESETS["hardened"], TEMPLATE_PATHS))  # type: ignore[arg-type]
    running._used = set(AMD64.digests) if used else set()

    async def main() -> list[str]:
        api = Api()
        for now in (NOW, NOW + UNUSED_SECONDS + 1):
            monkeypatch.setattr(time, "time", lambda now=now: now)
            await running.drop_unused(api, scans)
        return api.deleted

    return asyncio.run(main())


def test_what_nobody_runs_is_dropped_once_it_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(monkeypatch, WEEK - UNUSED_SECONDS - 10, used=False) == []
    assert len(kept(monkeypatch, WEEK + 10, used=False)) == 2
    assert kept(monkeypatch, 2 * WEEK, used=True) == []


def test_what_was_never_scanned_is_dropped_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(kept(monkeypatch, -1, used=False)) == 1
    assert kept(monkeypatch, -1, used=True) == []


def test_nothing_is_dropped_while_it_is_not_known_what_runs() -> None:
    scans = StoredScans(Api())
    scan = scan_of(scanner={"name": "trivy"}, scannedAt="2020-01-01T00:00:00Z")
    scans.requests[scan.name] = scan
    running = RunningScans(None, Policies(PRESETS["hardened"], TEMPLATE_PATHS))  # type: ignore[arg-type]
    running._asked["x",] = None  # type: ignore[assignment]
    api = Api()
    asyncio.run(running.drop_unused(api, scans))
    assert api.deleted == []
    for _ in range(PATIENT_LOOKS):  # of a registry that never answers it never is
        asyncio.run(running.drop_unused(api, scans))
    assert len(api.deleted) >= 1


@pytest.mark.parametrize(
    ("age", "used", "due"), [(1.0, True, False), (4.0, True, True), (4.0, False, False)]
)
def test_what_runs_is_scanned_again_in_time(
    monkeypatch: pytest.MonkeyPatch, age: float, used: bool, due: bool
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - age * 86400))
    scan = scan_of(scanner={"name": "trivy"}, scannedAt=at)
    running = RunningScans(None, Policies(PRESETS["hardened"], TEMPLATE_PATHS))  # type: ignore[arg-type]
    running._used = set(AMD64.digests) if used else set()
    assert running.due(scan) == due
