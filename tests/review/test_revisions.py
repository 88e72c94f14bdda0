"""Digests on revisions, whatever is written there, and the images of Pods that exist."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonpatch
import pytest
from batten_reviews import HARDENED, container, review
from batten_strategies import broken, json_values
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.governance import Governance
from batten_webhooks.inquiry import FactsNeeded, Inquiry
from batten_webhooks.policy import observing
from batten_webhooks.review import BadReview, Known, respond
from batten_webhooks.revision import MOST_BYTES, PREFIX
from batten_webhooks.rules.rule import Facts, Missing

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
APP, SETUP = "registry.example/app:1", "registry.example/setup:2"
KEY = f"{PREFIX}5d9f"
KINDS = {
    "ReplicaSet": ("apps/v1", ("spec", "template")),
    "ControllerRevision": ("apps/v1", ("data", "spec", "template")),
    "Job": ("batch/v1", ("spec", "template")),
}
kinds: st.SearchStrategy[str] = st.sampled_from(list(KINDS))
texts: st.SearchStrategy[str] = st.sampled_from(
    [json.dumps({APP: OTHER}), json.dumps({APP: "sha256:0", "x": OTHER}), "{}", "null", "[", ""]
)
keys: st.SearchStrategy[str] = st.sampled_from(
    [KEY, f"{PREFIX}other", PREFIX, "team", "pins.batten.dev"]
)
noted_values: st.SearchStrategy[Any] = st.none() | st.dictionaries(keys, texts)


def resolving(inquiry: Inquiry) -> Facts:
    """A registry that has every image but SETUP."""
    found = dict.fromkeys(inquiry.pin, DIGEST)
    return Facts(digests=found | ({SETUP: Missing("away")} if SETUP in found else {}))


KNOWN = Known(Governance(HARDENED), 0.0, images=resolving)


def revision(kind: str, noted: Any = None, *, image: str = APP) -> dict[str, Any]:
    version, path = KINDS.get(kind, ("apps/v1", ("spec", "template")))
    spec = {"containers": [container("app", image=image)]}
    spec["initContainers"] = [container("setup", image=SETUP)]
    value: dict[str, Any] = {"spec": spec}
    for field in reversed(path):
        value = {field: value}
    metadata = {"name": "web", "labels": {"pod-template-hash": "5d9f"}}
    if noted is not None:
        metadata["annotations"] = noted
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **value}


def after(value: Any, old: Any = None, known: Known = KNOWN) -> Any:
    """The object as the API server would store it."""
    sent = review(value, old, operation="UPDATE" if old is not None else "CREATE")
    response = json.loads(respond("mutate", json.dumps(sent).encode(), known).body)["response"]
    assert response["allowed"]
    patch = json.loads(base64.b64decode(response.get("patch", "W10=")))
    return jsonpatch.apply_patch(value, patch)


def ours(value: dict[str, Any]) -> dict[str, Any]:
    noted = value["metadata"].get("annotations") or {}
    return {key: text for key, text in noted.items() if key.startswith(PREFIX)}


@given(kinds, noted_values)
def test_what_is_made_has_what_its_registry_says_and_nothing_else(kind: str, noted: Any) -> None:
    value = revision(kind, noted)
    made = after(value)
    assert ours(made) == {KEY: json.dumps({APP: DIGEST}, separators=(",", ":"))}
    others = {key: text for key, text in (noted or {}).items() if not key.startswith(PREFIX)}
    made["metadata"]["annotations"].pop(KEY)
    assert made["metadata"].pop("annotations") == others
    value["metadata"].pop("annotations", None)
    assert made == value


@given(kinds, noted_values, noted_values)
def test_what_is_changed_later_is_restored(kind: str, noted: Any, old: Any) -> None:
    before = revision(kind, old)
    stored = after(revision(kind, noted), before)
    found, known = ours(stored), ours(before)
    for key, text in known.items():
        if key != KEY:
            assert found[key] == text
    said, had = (_read(each.get(KEY)) for each in (found, known))
    assert had.items() <= said.items()
    assert said.keys() <= {APP, SETUP}
    assert found.keys() <= {*known, KEY}
    assert after(stored, before) == stored


def _read(text: str | None) -> dict[str, str]:
    """The digests for images of the revision."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if k in (APP, SETUP) and len(v) == len(DIGEST)}


@pytest.mark.parametrize(("spare", "pinned"), [(0, False), (200, True)])
def test_a_revision_is_not_made_too_large_to_be_stored(spare: int, pinned: bool) -> None:
    own = "x" * (MOST_BYTES - len("team") - spare)
    value = revision("ReplicaSet", {"team": own, f"{PREFIX}other": "x" * MOST_BYTES})
    found = after(value)["metadata"]["annotations"]
    assert found.pop("team") == own
    assert bool(found) is pinned


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("added", [{}, {f"{PREFIX}other": json.dumps({APP: OTHER})}])
def test_another_label_makes_no_other_revision(kind: str, added: dict[str, str]) -> None:
    before = revision(kind, {KEY: json.dumps({APP: DIGEST})})
    value = revision(kind, {KEY: json.dumps({APP: DIGEST}), **added})
    value["metadata"]["labels"] = {"pod-template-hash": "other"}
    found = ours(after(value, before))
    assert {key: json.loads(text) for key, text in found.items()} == {
        KEY: {APP: DIGEST},
        f"{PREFIX}other": {APP: DIGEST},
    }


@given(noted_values)
def test_nothing_is_copied_to_a_deployment(noted: Any) -> None:
    for old in (None, revision("Deployment")):
        assert ours(after(revision("Deployment", noted), old)) == {}


def test_who_observes_writes_nothing_but_takes_away_what_others_wrote() -> None:
    watching = Known(Governance(observing(HARDENED)), 0.0, images=resolving)
    value = revision("ReplicaSet", {KEY: json.dumps({APP: OTHER})})
    assert ours(after(value, known=watching)) == {}


@given(kinds, broken() | json_values, st.none() | broken() | json_values)
def test_any_object_is_answered_or_is_an_error(kind: str, value: Any, old: Any) -> None:
    sent = review(value, old, operation="UPDATE" if old is not None else "CREATE")
    group = KINDS[kind][0].rpartition("/")[0]
    sent["request"]["kind"] = {"group": group, "version": "v1", "kind": kind}
    try:
        respond("mutate", json.dumps(sent).encode(), KNOWN)
    except BadReview:
        return


def test_what_is_not_at_hand_is_asked_for() -> None:
    unknown = Known(Governance(HARDENED), 0.0, images=lambda _: None)
    sent = json.dumps(review(revision("ReplicaSet"))).encode()
    with pytest.raises(FactsNeeded) as needed:
        respond("mutate", sent, unknown)
    assert needed.value.inquiry.pin.keys() == {APP, SETUP}


# --- Pods that exist ----------------------------------------------------------------------------


def pod(*images: str) -> dict[str, Any]:
    containers = [container(f"c{index}", image=image) for index, image in enumerate(images)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": containers},
    }


@pytest.mark.parametrize(
    ("new", "old", "stored"),
    [
        (APP, f"{APP}@{OTHER}", f"{APP}@{OTHER}"),  # applied again
        (APP, f"{SETUP}@{OTHER}", f"{APP}@{DIGEST}"),  # another one
        (f"{APP}@{OTHER}", f"{APP}@{DIGEST}", f"{APP}@{OTHER}"),  # said with its digest
        (APP, APP, APP),  # older than the installation: to change it would restart it
        (SETUP, APP, SETUP),  # its registry is away
    ],
)
def test_the_images_of_a_pod_that_exists(new: str, old: str, stored: str) -> None:
    before, value = pod(old, APP), pod(new, APP)
    found = after(value, before)
    assert [each["image"] for each in found["spec"]["containers"]] == [stored, APP]
    found["spec"]["containers"][0]["image"] = new
    assert found == value
