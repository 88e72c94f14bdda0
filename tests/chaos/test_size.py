"""One object of 3 MB, and very many at once. BATTEN_CHAOS_PODS says how many."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest
from batten_chaos import SAFE, UNSAFE, WEBHOOK, Stage, api, fault, measured
from batten_e2e import IMAGE, eventually

pytestmark = pytest.mark.cluster

PODS = int(os.environ.get("BATTEN_CHAOS_PODS") or 400)
OWNERS, AT_ONCE = 20, 50
BOTH = (WEBHOOK, "controller")
AUDITED = "batten_audit_timestamp_seconds"


@fault(
    "an object of 3 MB",
    webhooks="judge it as any other; what takes more than 8 MiB as a review is an error, which"
    " refuses Pods (Fail)",
    controller="never sees it: etcd takes 1.5 MB",
)
def test_a_large_object(batten: Stage) -> None:
    traffic = batten.traffic()
    with traffic.flowing():
        time.sleep(1)
        began = time.monotonic()
        plain = asyncio.run(large(batten, "x" * 2_900_000, SAFE))
        assert plain[0] == 201, plain[1]
        assert '"readOnlyRootFilesystem":true' in plain[1]
        unsafe = asyncio.run(large(batten, "x" * 2_900_000, UNSAFE))
        assert unsafe[0] == 403
        assert "no-privileged" in unsafe[1]
        seconds = (time.monotonic() - began) / 2
        # An API server writes each of these as six bytes.
        for spec in (SAFE, UNSAFE):
            escaped = asyncio.run(large(batten, "<" * 2_900_000, spec))
            assert escaped[0] == 500, escaped
            assert "failed calling webhook" in escaped[1]
        time.sleep(1)
    traffic.right()
    assert not traffic.count()["failed"], traffic.errors
    batten.calm(*BOTH)
    text = f"{traffic.words()}; {seconds:.1f} s for each large one"
    measured(test_a_large_object, 0.0, text, "nothing")


async def large(batten: Stage, value: str, spec: dict[str, Any]) -> tuple[int, str]:
    (container,) = spec["containers"]
    environment = [{"name": "LARGE", "value": value}]
    pod = {
        "metadata": {"name": "large"},
        "spec": {"containers": [{**container, "env": environment}]},
    }
    path = f"/api/v1/namespaces/{batten.namespace.name}/pods?dryRun=All"
    async with api(batten.plane) as session, session.post(path, json=pod) as answer:
        return answer.status, await answer.text()


@fault(
    "very many Pods at once",
    webhooks="change and judge each one",
    controller="reads them page by page, and writes three times a second: one report for each"
    " workload, not for each Pod",
)
def test_very_many_pods(batten: Stage) -> None:
    owners = [f"owner-{number}" for number in range(OWNERS)]
    values = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in owners
    ]
    batten.namespace.apply(*values).require()
    uids = {
        item["metadata"]["name"]: item["metadata"]["uid"]
        for item in batten.namespace.get("configmaps")["items"]
    }
    began = time.monotonic()
    said = asyncio.run(make(batten, [(name, uids[name]) for name in owners]))
    took = time.monotonic() - began
    assert said == {"hardened": PODS}, said
    made = time.time()
    eventually(lambda: batten.metric("controller", AUDITED) > made or None, "all are judged", 600)
    batten.reports_of(set(owners), 600)
    seconds = time.time() - made
    batten.calm(*BOTH)
    held = " and ".join(f"{resident(batten, name)} MiB" for name in BOTH)
    text = f"{PODS} hardened, 0 unhardened in {took:.0f} s; webhooks and controller took {held}"
    measured(test_very_many_pods, seconds, text, "nothing")


async def make(batten: Stage, owners: list[tuple[str, str]]) -> Counter[str]:
    said = Counter[str]()
    path = f"/api/v1/namespaces/{batten.namespace.name}/pods"

    async def some(session: aiohttp.ClientSession, first: int) -> None:
        for number in range(first, PODS, AT_ONCE):
            name, uid = owners[number % len(owners)]
            owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}
            metadata = {
                "generateName": f"{name}-",
                "ownerReferences": [{**owner, "controller": True}],
            }
            container = {"name": "app", "image": IMAGE}
            pod = {"metadata": metadata, "spec": {"containers": [container]}}
            async with session.post(path, json=pod) as answer:
                text = await answer.text()
                hardened = answer.status == 201 and '"readOnlyRootFilesystem":true' in text
                said["hardened" if hardened else f"{answer.status} {text[:200]}"] += 1

    async with api(batten.plane, 300) as session:
        await asyncio.gather(*(some(session, first) for first in range(AT_ONCE)))
    return said


def resident(batten: Stage, name: str) -> int:
    """The most that the process has held, in MiB."""
    pid = json.loads((batten.plane.folder / f"{name}.pid").read_text())["pid"]
    with open(f"/proc/{pid}/status") as status:
        (line,) = (each for each in status if each.startswith("VmHWM"))
    return int(line.split()[1]) // 1024
