"""A short run of what `million.py` and `coverage_guided.py` do for long."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from batten_mutation import bases, case
from batten_reviews import HARDENED, assert_accepted, container, review
from batten_strategies import broken, json_values, pods, workloads
from batten_targets import TARGETS, mutated, seeds
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.engine import evaluate
from batten_webhooks.review import Answer, BadReview, Webhook, respond, under
from batten_webhooks.workload import read_objects

HERE = Path(__file__).parent
webhooks: st.SearchStrategy[Webhook] = st.sampled_from(("mutate", "validate"))
operations = st.sampled_from(("CREATE", "UPDATE", "DELETE", "CONNECT"))
subresources = st.sampled_from(("", "ephemeralcontainers", "resize", "unheard-of"))
objects = st.none() | workloads | broken() | json_values


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, cwd=HERE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@given(webhooks, objects, objects, operations, subresources)
def test_every_review_is_answered_or_is_an_error(
    webhook: Webhook, value: Any, old: Any, operation: str, subresource: str
) -> None:
    sent = review(value, old, operation=operation, subresource=subresource)
    try:
        answer = respond(webhook, json.dumps(sent).encode(), under(HARDENED))
    except BadReview:
        return
    assert_accepted(webhook, sent["request"], answer)


@given(
    webhooks, st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_answered_or_are_an_error(webhook: Webhook, body: bytes) -> None:
    with pytest.raises(BadReview):
        respond(webhook, body, under(HARDENED))


@given(pods)
def test_a_privileged_container_is_refused_in_any_company(value: Any) -> None:
    spec = {**(value.get("spec") or {})}
    bad = container("bad", securityContext={"privileged": True})
    spec["initContainers"] = [*(spec.get("initContainers") or []), bad]
    body = json.dumps(review({**value, "spec": spec})).encode()
    assert not respond("validate", body, under(HARDENED)).allowed


@given(workloads)
def test_what_is_asked_for_changes_alone_is_the_same(value: Any) -> None:
    for _, workload in read_objects(value):
        whole = evaluate(workload, HARDENED)
        part = evaluate(workload, HARDENED, judge=False)
        assert (part.changes, part.proposed, part.unknowns) == (
            whole.changes,
            whole.proposed,
            whole.unknowns,
        )
        assert part.violations == ()


def test_a_case_is_a_function_of_its_number() -> None:
    texts = bases()
    assert case(7, 11, texts) == case(7, 11, texts)
    assert case(7, 11, texts) != case(7, 12, texts)


def test_what_had_to_be_refused_would_be_missed() -> None:
    """The oracle is one only if its cases are allowed without what was planted."""
    texts = bases()
    refused = [made for number in range(400) if (made := case(1, number, texts)).refuse]
    assert len(refused) > 50
    judged = 0
    for made in refused:
        try:
            answer: Answer = respond("validate", made.body, under(HARDENED))
        except BadReview:
            continue
        rules = {violation.rule for violation in answer.violations}
        judged += bool(rules & {"no-privileged", "no-host-namespaces", "read-only-root-filesystem"})
    assert judged > len(refused) / 2


def test_some_thousand_reviews() -> None:
    told = run("million.py", "--reviews=4000", "--seed=2", "--processes=1")
    assert told.startswith("4,000 reviews")
    assert told.endswith("; 0 failures\n")


@pytest.mark.parametrize("target", TARGETS)
def test_the_targets_of_the_guided_search(target: str) -> None:
    found = list(seeds(target))[:40]
    assert found
    for number, seed in enumerate(found):
        TARGETS[target](seed)
        TARGETS[target](seed[: number * 50])
        changed = mutated(seed, number)
        if changed is not None:
            TARGETS[target](changed)


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: pip install --group fuzz",
)
def test_the_guided_search(tmp_path: Path) -> None:
    findings = f"--findings={tmp_path / 'found'}"
    told = run("coverage_guided.py", "--target=reference", "--seconds=2", findings)
    assert told.startswith("reference: ")
    assert told.endswith(", 0 findings\n")
