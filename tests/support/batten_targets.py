"""What a fuzzer calls with any bytes: nothing may be raised but what the functions promise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import jsonpatch
from batten_corpus import CORPUS
from batten_mutation import bases, broken
from batten_reviews import HARDENED, assert_accepted, review

from batten_webhooks.engine import evaluate
from batten_webhooks.evidence.model import Unreadable
from batten_webhooks.evidence.readers import read, read_predicate, read_report
from batten_webhooks.manifests import Manifest, ManifestError
from batten_webhooks.patch import operations
from batten_webhooks.reference import InvalidReference, parse_reference
from batten_webhooks.review import BadReview, Webhook, respond, under
from batten_webhooks.workload import Malformed, read_objects

Json = Any
LARGEST_SEED = 4_000
# Scanners say much of one image; these are compared with nothing, and fast.
LARGEST_EVIDENCE = 16_000
EVIDENCE = Path(__file__).parents[1] / "evidence" / "fixtures"
PREDICATES = (
    "https://cosign.sigstore.dev/attestation/vuln/v1",
    "https://in-toto.io/attestation/vulns/v0.1",
    "https://openvex.dev/ns",
    "https://cyclonedx.org/bom",
)
WEBHOOKS: tuple[Webhook, ...] = ("mutate", "validate")


def answer_review(data: bytes) -> None:
    """The creation of the object that the bytes are, or of a Pod with bytes that are no JSON."""
    try:
        value, readable = json.loads(data), True
    except (ValueError, RecursionError):
        value, readable = {"apiVersion": "v1", "kind": "Pod"}, False
    request = review(value)["request"]
    head, null, tail = json.dumps(request | {"object": None}).encode().partition(b'"object": null')
    body = b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":'
    body += head + null.replace(b"null", data) + tail + b"}"
    for webhook in WEBHOOKS:
        with suppress(BadReview):
            answer = respond(webhook, body, under(HARDENED))
            if readable:
                assert_accepted(webhook, request, answer)


def edit_manifest(data: bytes) -> None:
    """Parse, place, harden and read again; what is not to change must not."""
    try:
        manifest = Manifest.parse(data, name="fuzz.yaml")
    except ManifestError:
        return
    patches: dict[int, list[Json]] = {}
    for document in manifest.documents:
        try:
            found = list(read_objects(document.value))
        except Malformed:
            continue
        for pointer, workload in found:
            verdict = evaluate(workload, HARDENED)
            for violation in verdict.violations:
                at = pointer + workload.prefix + violation.finding.path
                place = document.locate(at)
                manifest.lines([document.span(at)]).line(place.line)
            changes = [applied.change for applied in verdict.changes]
            patch = [dict(operation) for operation in operations(workload, changes, pointer)]
            patches.setdefault(document.index, []).extend(patch)
    assert manifest.edit({}) == data
    try:
        edited = manifest.edit(patches)
    except ManifestError:
        return
    result = Manifest.parse(edited, name="fuzz.yaml")
    for before, after in zip(manifest.documents, result.documents, strict=True):
        assert after.value == jsonpatch.apply_patch(before.value, patches.get(before.index, []))


def read_reference(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    assert parse_reference(str(reference)) == reference


def read_evidence(data: bytes) -> None:
    """As a file, and what of it is an object of the API or a predicate."""
    with suppress(Unreadable):
        read(data)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    with suppress(Unreadable):
        read_report(value)
    for kind in PREDICATES:
        with suppress(Unreadable):
            read_predicate(kind, value, frozenset())


TARGETS: dict[str, Callable[[bytes], None]] = {
    "review": answer_review,
    "manifest": edit_manifest,
    "reference": read_reference,
    "evidence": read_evidence,
}


def seeds(target: str) -> Iterator[bytes]:
    """Inputs to start from: real objects and files, small ones."""
    found: Iterable[bytes] = REFERENCES
    if target == "review":
        found = [text.encode() for text in bases()]
    elif target == "manifest":
        paths = sorted((CORPUS / "manifests").rglob("*.y*ml"))
        found = [MANIFEST, *(path.read_bytes() for path in paths)]
    elif target == "evidence":
        found = [path.read_bytes() for path in sorted(EVIDENCE.glob("*.json"))]
    most = LARGEST_EVIDENCE if target == "evidence" else LARGEST_SEED
    return (seed for seed in found if len(seed) <= most)


MANIFEST = b"""apiVersion: v1
kind: Pod
metadata: &meta {name: web, labels: {}} # written by hand
spec:
  containers:
  - name: app
    image: "nginx"   # no tag
---
kind: List
apiVersion: v1
items: [{apiVersion: apps/v1, kind: Deployment, spec: {template: {metadata: *meta}}}]
"""
REFERENCES = (
    b"nginx",
    b"nginx:1.27",
    b"registry.example:5000/team/app:2@sha256:" + b"a" * 64,
    b"[::1]:5000/app@sha512:" + b"0" * 128,
    b"localhost/app:latest",
    b"docker.io/library/nginx",
    b"index.docker.io/nginx",
)


def mutated(data: bytes, number: int) -> bytes | None:
    """JSON with one thing in it changed, still JSON; None for what is none."""
    try:
        value = json.loads(data)
        return json.dumps(broken(Random(number), value)).encode()  # noqa: S311
    except (ValueError, RecursionError):
        return None
