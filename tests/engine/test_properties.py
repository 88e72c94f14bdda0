"""What holds for every Pod: judged in full, patched so that it applies, twice the same as once."""

from __future__ import annotations

import contextlib
import copy
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonpatch
import pytest
from batten_strategies import broken, json_values, users, workloads
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.engine import evaluate
from batten_webhooks.patch import operations
from batten_webhooks.policy import PRESETS, Policy, observing
from batten_webhooks.rules.rule import Facts
from batten_webhooks.verdict import Verdict
from batten_webhooks.workload import Malformed, Workload, decode_pod, read_objects, read_pod

HARDENED = PRESETS["hardened"]
policies = st.sampled_from([*PRESETS.values(), observing(HARDENED)])
facts = users.map(lambda known: Facts(users=known))


def judged(
    document: Any, policy: Policy = HARDENED, known: Facts | None = None
) -> tuple[Workload, Verdict]:
    [(_, workload)] = read_objects(document)
    return workload, evaluate(workload, policy, known or Facts())


def hardened(document: Any, workload: Workload, verdict: Verdict) -> Any:
    """The document with the changes made; proves that the patch is JSON and leaves its input."""
    before = copy.deepcopy(document)
    patch = operations(workload, [applied.change for applied in verdict.changes])
    result = jsonpatch.apply_patch(document, json.loads(json.dumps(patch)))
    assert document == before
    return result


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
    """The changed object breaks exactly what the verdict said would remain, and needs no change."""
    workload, verdict = judged(document, HARDENED, known)
    result = hardened(document, workload, verdict)
    _, after = judged(result, HARDENED, known)
    assert after.changes == ()
    assert Counter(v.key for v in after.violations) == Counter(v.key for v in verdict.remaining())


@given(workloads)
def test_what_is_set_stays(document: Any) -> None:
    """Everything that was there is there afterwards, but for what the rules say they change."""
    workload, verdict = judged(document)
    result = hardened(document, workload, verdict)
    touched = {
        workload.prefix + applied.change.path
        for applied in verdict.changes
        if applied.change.op != "add"
    }
    gone = {
        pointer
        for pointer, value in _leaves(document)
        if value is not None and _at(result, pointer) != value
    }
    assert all(any(_within(pointer, place) for place in touched) for pointer in gone)


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


def _leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{pointer}/{_token(key)}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{pointer}/{index}")
    else:
        yield pointer, value


def _at(value: Any, pointer: str) -> Any:
    return jsonpatch.JsonPointer(pointer).resolve(value, default=None)


def _token(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _within(pointer: str, place: str) -> bool:
    return pointer == place or pointer.startswith(place + "/")
