"""Who wrote a scan is the API server's to say, whatever its author says."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest

from batten_webhooks.authorship import SCANS, WRITTEN_BY, operations
from batten_webhooks.workload import Kind

IMAGE_SCAN = Kind("batten.dev", "ImageScan")


def scan(content: Any = "what was found", kind: Kind = IMAGE_SCAN, **metadata: Any) -> Any:
    return {"metadata": metadata, SCANS[kind]: content}


def by(author: str) -> dict[str, str]:
    return {WRITTEN_BY: author}


def written(value: Any, old: Any = None, kind: Kind = IMAGE_SCAN) -> Any:
    """By "jane", as the API server keeps it; the same again changes nothing more."""
    found = jsonpatch.apply_patch(value, operations(kind, value, old, "jane"))
    assert operations(kind, found, old, "jane") == []
    return (found["metadata"].get("annotations") or {}).get(WRITTEN_BY)


@pytest.mark.parametrize("kind", SCANS)
@pytest.mark.parametrize("said", [{}, {"annotations": None}, {"annotations": by("ci")}])
def test_who_creates_it(kind: Kind, said: dict[str, Any]) -> None:
    assert written(scan(kind=kind, **said), kind=kind) == "jane"


@pytest.mark.parametrize("said", [{}, {"annotations": {}}, {"annotations": by("jane")}])
def test_who_changes_no_content_is_not_its_author(said: dict[str, Any]) -> None:
    """Nor takes its author away."""
    assert written(scan(**said), scan(annotations=by("ci"))) == "ci"
    assert written(scan(**said, labels={"a": "b"}), scan(annotations=by("ci"))) == "ci"


def test_who_changes_its_content_is() -> None:
    changed = scan("something else", annotations=by("ci"))
    assert written(changed, scan(annotations=by("ci"))) == "jane"


@pytest.mark.parametrize("kind", SCANS)
def test_only_its_content_counts(kind: Kind) -> None:
    old = {**scan(kind=kind, annotations=by("ci")), "status": {"phase": "Running"}}
    assert written({**old, "status": {"phase": "Complete"}}, old, kind) == "ci"


def test_what_nobody_saw_stays_nobodys() -> None:
    """Until its content changes: who touches it does not vouch for it."""
    assert written(scan(annotations=by("ci")), scan()) is None
    assert written(scan("something else"), scan()) == "jane"


def test_other_annotations_stay() -> None:
    value = scan(annotations={"team": "shop"})
    found = jsonpatch.apply_patch(value, operations(IMAGE_SCAN, value, None, "jane"))
    assert found["metadata"]["annotations"] == {"team": "shop", **by("jane")}


@pytest.mark.parametrize("value", [{}, {"metadata": None}, {"metadata": {}}, [], "x", None])
def test_whatever_comes(value: Any) -> None:
    """Objects without metadata are none that an API server sends: nothing may break."""
    assert isinstance(operations(IMAGE_SCAN, value, value, "jane"), list)
