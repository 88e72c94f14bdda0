"""Digests on revisions: a revision's Pods run the bytes that its images were when it was made.

A revision is the object that a controller keeps for each version of a Pod template: a ReplicaSet,
a ControllerRevision, a Job. Its digests stand in an annotation of its metadata, never in its
template, which its controller would take for another version:

    pins.batten.dev/<the revision's hash>: {"nginx:1.27": "sha256:…"}

The hash is in the key because `kubectl rollout undo` and the Deployment controller copy annotations
between ReplicaSets and Deployments: what belongs to another revision is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from batten_webhooks.rules.pinned_digest import readable
from batten_webhooks.verdict import pointer_token
from batten_webhooks.workload import Kind, Malformed, Metadata, PodTemplate, read_pod, template_of

PREFIX = "pins.batten.dev/"
# Where the Pod template stands in each kind of revision.
REVISIONS: Mapping[Kind, tuple[str, ...]] = {
    Kind("apps", "ReplicaSet"): ("spec", "template"),
    Kind("apps", "ControllerRevision"): ("data", "spec", "template"),
    Kind("batch", "Job"): ("spec", "template"),
}
# To these annotations of revisions are copied.
COPIES = frozenset((Kind("apps", "Deployment"),))
# The hash that a controller gives its revisions; a Job has none, and no other version either.
HASH_LABELS = (
    "pod-template-hash",
    "controller-revision-hash",
    "controller.kubernetes.io/hash",
)
NO_HASH = "revision"
# Of all annotations of one object, keys and values
# (https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/).
MOST_BYTES = 256 * 1024
_HASH = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")

Annotations = Mapping[str, str | None]


class Revision(Struct, frozen=True):
    """`images` are the references in its template that lack a digest."""

    metadata: Metadata
    template: PodTemplate
    images: frozenset[str]

    @property
    def key(self) -> str:
        """Of the annotation that holds its digests."""
        labels = self.metadata.labels or {}
        hashes = (labels.get(label) for label in HASH_LABELS)
        return PREFIX + next((h for h in hashes if h and _HASH.fullmatch(h)), NO_HASH)

    @property
    def pins(self) -> dict[str, str]:
        return read_pins((self.metadata.annotations or {}).get(self.key), self.images)

    @property
    def unpinned(self) -> bool:
        """Whether any of its images lacks a digest."""
        return bool(self.images - self.pins.keys())


def read_revision(kind: Kind, value: Any) -> Revision:
    """From an object of one of REVISIONS. Raises Malformed."""
    try:
        metadata = msgspec.convert(value.get("metadata"), Metadata | None) or Metadata()
        template = msgspec.convert(template_of(value, REVISIONS[kind]), PodTemplate)
    except (msgspec.ValidationError, RecursionError, AttributeError) as error:
        raise Malformed(f"is no {kind.kind}: {error}") from None
    texts = (image for _, _, image in read_pod(template).images)
    images = frozenset(t for t in texts if (found := readable(t)) and not found.digest)
    return Revision(metadata, template, images)


def read_pins(text: str | None, images: frozenset[str]) -> dict[str, str]:
    """The digests that an annotation holds for these references; anything else is passed over."""
    try:
        found = msgspec.json.decode(text or "{}", type=dict[str, str])
    except (msgspec.DecodeError, RecursionError):
        return {}
    return {
        image: digest
        for image, digest in found.items()
        if image in images and _DIGEST.fullmatch(digest)
    }


def written(pins: Mapping[str, str]) -> str:
    return msgspec.json.encode(dict(sorted(pins.items()))).decode()


def ours(annotations: Annotations) -> dict[str, str | None]:
    return {key: text for key, text in annotations.items() if key.startswith(PREFIX)}


def kept(revision: Revision, before: Revision) -> dict[str, str | None]:
    """What our annotations are to be after an update: once there is a digest it stays, also where
    the label is changed that holds the revision's hash; the one of an image that had none may be
    added, for the revision itself alone."""
    result = ours(before.metadata.annotations or {})
    there = read_pins(result.get(revision.key), revision.images)
    own = read_pins(result.get(before.key), revision.images)
    pins = {**revision.pins, **there, **own}
    if pins and pins != there:
        result[revision.key] = written(pins)
    return result


def fits(there: Annotations, wanted: Annotations) -> bool:
    """Whether the API server takes them beside the others: it refuses the object otherwise."""
    others = {key: text for key, text in there.items() if not key.startswith(PREFIX)}
    texts = (each or "" for item in {**others, **wanted}.items() for each in item)
    return sum(len(text.encode(errors="surrogatepass")) for text in texts) <= MOST_BYTES


def differences(there: Annotations | None, wanted: Annotations) -> list[dict[str, Any]]:
    """JSON Patch operations that make our annotations what is wanted, and leave others alone."""
    if there is None:
        return [{"op": "add", "path": "/metadata/annotations", "value": wanted}] if wanted else []
    made = [
        {"op": "remove", "path": _path(key)} for key in sorted(ours(there)) if key not in wanted
    ]
    return made + [
        {"op": "add", "path": _path(key), "value": text}
        for key, text in wanted.items()
        if there.get(key) != text
    ]


def _path(key: str) -> str:
    return f"/metadata/annotations/{pointer_token(key)}"
