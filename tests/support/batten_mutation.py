"""Reviews made by breaking real Pods in many ways, each one a function of a seed and a number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import yaml
from batten_corpus import CORPUS
from batten_reviews import pod, review, text

from batten_webhooks.review import Webhook
from batten_webhooks.workload import Malformed, read_objects

Json = Any
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NODES = ("system:nodes", "system:authenticated")
PLANTED = "planted-by-the-test"

FIELDS = (
    "securityContext", "containers", "initContainers", "ephemeralContainers", "volumes", "name",
    "volumeMounts", "capabilities", "drop", "add", "seccompProfile", "type", "annotations", "os",
    "hostPID", "hostNetwork", "hostUsers", "runAsNonRoot", "runAsUser", "privileged", "image",
    "readOnlyRootFilesystem", "allowPrivilegeEscalation", "lifecycle", "preStop", "metadata",
    "terminationGracePeriodSeconds", "restartPolicy", "env", "ports", "hostPort", "sysctls",
    "procMount", "nodeSelector", "spec", "template", "jobTemplate", "resources", "emptyDir",
    "batten.dev/writable-paths", "kubernetes.io/config.mirror", "items", "futureField",
)  # fmt: skip
SCALARS: tuple[Json, ...] = (
    None, True, False, 0, 1, -1, 30, 2**31, 2**63, 2**64, -(2**70), 0.5, 1e308, "", "0", "ALL",
    "Always", "RuntimeDefault", "Unconfined", "Localhost", "windows", "/tmp", "/", "nginx:latest",  # noqa: S108
    "true", "null", "\x00", "\ud800", "\u2028", "é", "a/b~c", "~1", "-", "[0]", "app:/x,/y,z:/..",
)  # fmt: skip
WEBHOOKS: tuple[Webhook, ...] = ("mutate", "validate")
SUBRESOURCES = ("status", "resize", "ephemeralcontainers", "ephemeralcontainers", "unheard-of")
OPERATIONS = (*["CREATE"] * 12, *["UPDATE"] * 6, "DELETE", "CONNECT", "")
SPECS = {
    ("v1", "Pod"): ("spec",),
    ("v1", "ReplicationController"): ("spec", "template", "spec"),
    ("apps/v1", "Deployment"): ("spec", "template", "spec"),
    ("apps/v1", "StatefulSet"): ("spec", "template", "spec"),
    ("apps/v1", "DaemonSet"): ("spec", "template", "spec"),
    ("batch/v1", "Job"): ("spec", "template", "spec"),
    ("batch/v1", "CronJob"): ("spec", "jobTemplate", "spec", "template", "spec"),
}
MOST_REPEATED = 20_000  # characters; repeated again and again it must still be a review


@dataclass(frozen=True, slots=True)
class Case:
    """`refuse` says that whatever else is in it, the answer of `validate` may not be `allowed`.

    `request` is what is in the body, None where that was torn.
    """

    webhook: Webhook
    body: bytes
    request: Json
    refuse: bool


@cache
def bases() -> list[str]:
    """Objects with Pod templates as JSON, and a Pod of each template: those of the corpus where it
    is, and one plain Pod."""
    found = [pod()]
    for folder in ("manifests", "pss"):
        for path in sorted((CORPUS / folder).rglob("*.y*ml")):
            for document in _documents(path.read_text()):
                template = (document.get("spec") or {}).get("template")
                found += [document] if template is None else [document, _pod_of(template)]
    return [json.dumps(value, default=str) for value in found]


def _documents(content: str) -> Iterator[Json]:
    try:
        documents = list(yaml.load_all(content, Loader=LOADER))
    except yaml.YAMLError:
        return
    for document in documents:
        try:
            if any(read_objects(document)):
                yield document
        except Malformed:
            continue


def _pod_of(template: Json) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", **template}


def case(seed: int, number: int, texts: list[str]) -> Case:
    random = Random(f"{seed}:{number}")  # noqa: S311
    value = json.loads(random.choice(texts))
    api_version, kind = value["apiVersion"], value["kind"]
    value = _broken_often(random, value, texts)
    operation = random.choice(OPERATIONS)
    old: Json = None
    if operation in ("UPDATE", "DELETE"):
        old = json.loads(json.dumps(value))
        if random.random() < 0.5:
            value = _broken_often(random, value, texts)
    subresource = ""
    if random.random() < (0.3 if operation == "UPDATE" else 0.02):
        subresource = random.choice(SUBRESOURCES)
    if random.random() < 0.02:
        api_version, kind = text(value, "apiVersion"), text(value, "kind")
    place = _pod_spec(value, api_version, kind) if operation in ("CREATE", "UPDATE") else None
    ephemeral = kind == "Pod" and subresource == "ephemeralcontainers"
    refuse = False
    if place is not None and not ephemeral and random.random() < 0.35:
        refuse = _plant(random, value, place, old)
    sent = review(
        value if operation != "DELETE" else None,
        old,
        operation=operation,
        subresource=subresource,
        groups=NODES if random.random() < 0.2 and not refuse else ("system:authenticated",),
        api_version=api_version,
        kind=kind,
    )
    body = json.dumps(sent).encode()
    if random.random() < 0.05:
        return Case(random.choice(WEBHOOKS), _torn(random, body), None, refuse=False)
    webhook: Webhook = "validate" if refuse else random.choice(WEBHOOKS)
    return Case(webhook, body, sent["request"], refuse)


# --- what must be refused -----------------------------------------------------------------------


def _plant(random: Random, value: Json, spec: dict[str, Json], old: Json) -> bool:
    """Put a thing into the Pod that no mutation of other fields may hide; False if it is not new.

    On Windows a read-only root filesystem means nothing, and for the objects of a controller their
    owner answers.
    """
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("ownerReferences", None)
    if old is None and random.random() < 0.3:
        spec["hostPID"] = True
        return True
    bad: Json = {"privileged": True}
    if not spec.get("os") and random.random() < 0.3:
        bad = {"readOnlyRootFilesystem": False}
    container = {"name": PLANTED, "image": "registry.example/app:1", "securityContext": bad}
    field = random.choice(("containers", "initContainers"))
    others = spec.get(field)
    spec[field] = [container, *others] if isinstance(others, list) else [container]
    return PLANTED not in json.dumps(old)


def _pod_spec(value: Json, api_version: str, kind: str) -> dict[str, Json] | None:
    """Where the object's Pod spec stands, told without the code under test."""
    if (text(value, "apiVersion"), text(value, "kind")) != (api_version, kind) and kind != "Pod":
        return None
    place = value
    for field in SPECS.get((api_version, kind), ("nowhere",)):
        place = place.get(field) if isinstance(place, dict) else None
    return place if isinstance(place, dict) else None


# --- how things are broken ----------------------------------------------------------------------


def _broken_often(random: Random, value: Json, texts: list[str]) -> Json:
    """Below the spec more often than above it, where there is little."""
    for _ in range(random.choice((0, 0, 0, 1, 1, 1, 2, 4))):
        if (
            isinstance(value, dict)
            and isinstance(value.get("spec"), dict)
            and random.random() < 0.7
        ):
            value["spec"] = broken(random, value["spec"], texts)
        else:
            value = broken(random, value, texts)
    return value


def broken(random: Random, value: Json, texts: Sequence[str] = ("{}",)) -> Json:
    """The value with one thing changed somewhere in it."""
    if not isinstance(value, dict | list) or not value:
        return _anything(random)
    place: Json = value
    while True:
        key = (
            random.choice(list(place)) if isinstance(place, dict) else random.randrange(len(place))
        )
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or random.random() < 0.15:
            break
        place = inner
    again = inner if len(json.dumps(inner)) < MOST_REPEATED else None
    kind = random.random()
    if kind < 0.35:
        place[key] = _anything(random)
    elif kind < 0.5:
        del place[key]
    elif kind < 0.6:
        place[key] = [again] * random.choice((1, 2, 3, 40))
    elif kind < 0.7:
        place[key] = {random.choice(FIELDS): inner}
    elif kind < 0.72:
        place[key] = json.loads(random.choice(texts)).get("spec")
    elif isinstance(place, list):
        place.append(random.choice((again, _anything(random))))
    else:
        name = random.choice((*FIELDS, f"{key}{random.choice(SCALARS)}"))
        place[name] = random.choice((again, _anything(random)))
    return value


def _anything(random: Random) -> Json:
    kind = random.random()
    if kind < 0.7:
        return random.choice(SCALARS)
    if kind < 0.97:
        return random.choice(({}, [], [{}], [None], {"name": None}, [[]], {"": ""}, ["ALL"], [0]))
    if kind < 0.99:
        return random.choice("x/,é\x00") * random.choice((300, 5_000, 100_000))
    deep: Json = 1
    for _ in range(random.choice((10, 100, 400))):
        deep = {random.choice(("a", "spec", "securityContext")): deep}
    return deep


def _torn(random: Random, body: bytes) -> bytes:
    """Bytes lost, flipped or doubled: duplicate keys, half a document, bad UTF-8."""
    at = random.randrange(len(body))
    end = min(len(body), at + random.choice((1, 10, 200)))
    kind = random.random()
    if kind < 0.3:
        return body[:at]
    if kind < 0.6:
        return body[:at] + bytes([random.randrange(256)]) + body[at + 1 :]
    if kind < 0.8:
        return body[:at] + body[at:end] + body[at:]
    return body[:at] + random.choice((b"[", b'{"a":')) * 50_000 + body[end:]
