"""What must hold for every workload, generated or found."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonpatch

from batten_webhooks.engine import evaluate
from batten_webhooks.patch import operations
from batten_webhooks.policy import PRESETS
from batten_webhooks.rules.rule import Facts
from batten_webhooks.verdict import Verdict
from batten_webhooks.workload import Workload, read_objects

HARDENED = PRESETS["hardened"]
NO_FACTS = Facts()


def harden(document: Any, workload: Workload, verdict: Verdict, root: str = "") -> Any:
    """The document with the changes made; proves that the patch is JSON and leaves its input."""
    before = copy.deepcopy(document)
    patch = operations(workload, [applied.change for applied in verdict.changes], root)
    result = jsonpatch.apply_patch(document, json.loads(json.dumps(patch)))
    assert document == before
    return result


def assert_mutated_is_validated(document: Any, facts: Facts = NO_FACTS) -> None:
    """Once changed, each workload breaks exactly what was to remain, and needs no change."""
    for index, (root, workload) in enumerate(read_objects(document)):
        verdict = evaluate(workload, HARDENED, facts)
        result = harden(document, workload, verdict, root)
        place, changed = list(read_objects(result))[index]
        assert place == root
        after = evaluate(changed, HARDENED, facts)
        assert after.changes == ()
        assert Counter(violation.key for violation in after.violations) == Counter(
            violation.key
            for violation in verdict.violations
            if not violation.fixed or violation.finding.at_admission
        )


def assert_what_is_set_stays(document: Any) -> None:
    """Everything that was there is there afterwards, but for what rules replace or remove."""
    for root, workload in read_objects(document):
        verdict = evaluate(workload, HARDENED)
        result = harden(document, workload, verdict, root)
        touched = [
            root + workload.prefix + applied.change.path
            for applied in verdict.changes
            if applied.change.op != "add"
        ]
        for pointer, value in _leaves(document):
            if value is not None and _at(result, pointer) != value:
                assert any(_within(pointer, place) for place in touched), pointer


def _leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{pointer}/{_token(key)}")
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{pointer}/{index}")
    elif not isinstance(value, dict | list):
        yield pointer, value


def _at(value: Any, pointer: str) -> Any:
    return jsonpatch.JsonPointer(pointer).resolve(value, default=None)


def _token(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _within(pointer: str, place: str) -> bool:
    return pointer == place or pointer.startswith(place + "/")
