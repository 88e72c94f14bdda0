"""What holds for every Pod: judged in full, patched so that it applies, twice the same as once."""

from __future__ import annotations

import contextlib
import json
from itertools import cycle
from typing import Any

import pytest
from batten_growth import growth
from batten_properties import HARDENED, assert_mutated_is_validated, assert_what_is_set_stays
from batten_strategies import broken, json_values, users, workloads
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.engine import evaluate
from batten_webhooks.image_facts import ImageFacts, Profile
from batten_webhooks.patch import operations
from batten_webhooks.policy import PRESETS, Policy, observing
from batten_webhooks.rules.rule import Facts
from batten_webhooks.verdict import Verdict
from batten_webhooks.workload import Malformed, Workload, decode_pod, read_objects, read_pod

policies = st.sampled_from([*PRESETS.values(), observing(HARDENED)])
PROFILES = (
    None,
    Profile("plain", 7, 7),
    Profile("web", 101, 102, writable=("/run", "/tmp/cache"), ports=("80/tcp",)),  # noqa: S108
    Profile(
        "database",
        999,
        998,
        data=("/data", "/var"),
        owned={"DATA": ("/data/own",)},
        environment={"PATH": "/bin", "PLAIN": "1"},
    ),
    Profile("shy", 999, 999, data=("/data",), guards=True),
)
facts = st.builds(
    lambda known, each: Facts(
        {k: ImageFacts(user=v, cmd=("sh",), profile=next(each)) for k, v in known.items()}
    ),
    users,
    st.lists(st.sampled_from(PROFILES), min_size=1, max_size=3).map(cycle),
)


def judged(
    document: Any, policy: Policy = HARDENED, known: Facts | None = None
) -> tuple[Workload, Verdict]:
    [(_, workload)] = read_objects(document)
    return workload, evaluate(workload, policy, known or Facts())


@given(workloads, policies, facts)
def test_total(document: Any, policy: Policy, known: Facts) -> None:
    workload, verdict = judged(document, policy, known)
    again = evaluate(workload, policy, known)
    assert again == verdict
    for violation in verdict.violations:
        assert violation.finding.detail
        assert violation.finding.remedy
        assert violation.finding.path.startswith(("/spec/", "/metadata/"))


@given(workloads, facts)
def test_mutated_is_validated(document: Any, known: Facts) -> None:
    assert_mutated_is_validated(document, known)


@given(workloads)
def test_what_is_set_stays(document: Any) -> None:
    assert_what_is_set_stays(document)


@given(workloads)
def test_windows_gets_no_linux_field(document: Any) -> None:
    """The API server refuses these fields there (pkg/apis/core/validation, validateWindows)."""
    workload, verdict = judged(document)
    forbidden = ["seccompProfile", "capabilities", "readOnlyRootFilesystem", "runAsUser"]
    forbidden += ["allowPrivilegeEscalation", "privileged", "procMount", "fsGroup"]
    if workload.windows:
        for applied in verdict.changes:
            assert not any(f"/{field}" in applied.change.path for field in forbidden)
    if workload.windows_by_selector:
        assert verdict.changes == ()


@given(workloads)
def test_a_decoded_pod_is_judged_alike(document: Any) -> None:
    """The webhook decodes bytes, files come as objects: the same answer."""
    if document["kind"] != "Pod":
        return
    workload, verdict = judged(document)
    pod = read_pod(decode_pod(json.dumps(document).encode()))
    pod.name = workload.name
    assert evaluate(pod, HARDENED) == verdict


@given(broken() | json_values)
def test_any_json_is_read_or_malformed(document: Any) -> None:
    try:
        found = list(read_objects(document))
    except Malformed:
        return
    for _, workload in found:
        verdict = evaluate(workload, HARDENED)
        operations(workload, [applied.change for applied in verdict.changes])


@pytest.mark.parametrize("inner", ["spec", "items"])
def test_deep_nesting_is_read_or_malformed(inner: str) -> None:
    document: Any = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "deep"}}
    for _ in range(20_000):
        value = [document] if inner == "items" else document
        document = {"apiVersion": "v1", "kind": "List" if inner == "items" else "Pod", inner: value}
    with contextlib.suppress(Malformed):
        list(read_objects(document))
    # Taken apart step by step: the interpreter would recurse.
    while document is not None:
        value = document.pop(inner, None)
        document = value[0] if isinstance(value, list) else value


def _greedy(containers: int) -> tuple[Any, Any]:
    """A Pod that asks for as much work as it can: the API server takes up to 3 MiB."""
    container = {
        "name": "app",
        "capabilities": {"drop": ["NET_RAW"] * 64},
        "volumeMounts": [{"name": "data", "mountPath": f"/./data/{i}"} for i in range(20)],
    }
    paths = ",".join(f"/data/{i}/x" for i in range(10_000))
    spec = {"containers": [container] * containers, "capabilities": {"drop": ["MKNOD"] * 100_000}}
    metadata = {"annotations": {"batten.dev/writable-paths": paths}}
    return judged({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def test_work_grows_with_the_pod_and_no_faster() -> None:
    def work(containers: int) -> None:
        workload, verdict = _greedy(containers)
        assert operations(workload, [applied.change for applied in verdict.changes])

    assert growth(work, 100, 1_000) < 40


def test_more_containers_than_any_pod_has_are_malformed() -> None:
    with pytest.raises(Malformed):
        _greedy(1_001)
