"""Answer an AdmissionReview (admission.k8s.io/v1): the engine behind both webhooks.

`mutate` says what would be changed, `validate` what is wrong with the object as it stands; see
https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from batten_webhooks import authorship, messages
from batten_webhooks.engine import NO_FACTS, evaluate
from batten_webhooks.governance import EXPIRES_SOON, Governance, Governed
from batten_webhooks.inquiry import (
    FactsNeeded,
    Source,
    WantedScan,
    inquire,
    pins,
    scan_or_deny,
    wanted_scans,
)
from batten_webhooks.patch import operations
from batten_webhooks.policy import Policy
from batten_webhooks.revision import (
    COPIES,
    REVISIONS,
    Annotations,
    Revision,
    differences,
    fits,
    kept,
    read_revision,
    written,
)
from batten_webhooks.rules import pinned_digest
from batten_webhooks.rules.rule import Facts, Missing
from batten_webhooks.selectors import Labels
from batten_webhooks.verdict import AppliedChange, Unknown, Verdict, Violation, acting
from batten_webhooks.workload import (
    TEMPLATE_PATHS,
    Kind,
    Malformed,
    PodTemplate,
    Workload,
    decode_pod,
    ephemeral_workload,
    read_object,
    read_pod,
    template_of,
)

Webhook = Literal["mutate", "validate"]
API_VERSION = "admission.k8s.io/v1"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
NODES_GROUP = "system:nodes"
# No more causes, and no more rows of an audit annotation, are told: a review of some megabytes
# could ask for an answer of many more.
MOST_TOLD = 500


class BadReview(Exception):
    """What is no review, or none for us: an HTTP error, so that the failurePolicy decides."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NamespaceUnknown(Exception):
    """The labels of the namespace `name` decide, and are not at hand: look them up and ask again.

    Never taken for a namespace without labels.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"the labels of the namespace {name!r} are not known")
        self.name = name


class GroupVersionKind(Struct, frozen=True):
    group: str = ""
    version: str = ""
    kind: str = ""


class UserInfo(Struct, frozen=True):
    username: str = ""
    groups: list[str] | None = None


class _Head(Struct):
    uid: str
    kind: GroupVersionKind
    operation: str
    name: str = ""
    namespace: str = ""
    subResource: str = ""  # noqa: N815
    dryRun: bool | None = None  # noqa: N815
    userInfo: UserInfo = UserInfo()  # noqa: N815

    @property
    def of_pod(self) -> bool:
        return not self.kind.group and self.kind.kind == "Pod"


class ObjectRequest(_Head):
    """Its objects are read when they are needed, if they are."""

    object: Raw = Raw(b"null")
    oldObject: Raw = Raw(b"null")  # noqa: N815


class PodRequest(_Head):
    """Its objects were read with the rest, in one pass."""

    object: PodTemplate | None = None
    oldObject: PodTemplate | None = None  # noqa: N815


Request = PodRequest | ObjectRequest


class ObjectReview(Struct):
    apiVersion: str  # noqa: N815
    kind: str
    request: ObjectRequest


class PodReview(Struct):
    apiVersion: str  # noqa: N815
    kind: str
    request: PodRequest


class Answer(Struct, frozen=True):
    """`body` is the AdmissionReview to send; the rest is for metrics, logs and events. `controlled`
    is a Pod that a controller makes, and will try to make again; `wanted` are scans that it lacks.
    """

    body: bytes
    uid: str
    operation: str
    kind: str
    namespace: str
    allowed: bool
    name: str = ""
    api_version: str = ""
    dry_run: bool = False
    controlled: bool = False
    message: str = ""
    mutated: bool = False
    violations: tuple[Violation, ...] = ()
    wanted: tuple[WantedScan, ...] = ()


class _Judgement(Struct):
    """What `validate` found: the violations, how to take them, and what to say besides."""

    workload: Workload
    governed: Governed
    violations: list[Violation]
    facts: Facts
    unknowns: tuple[Unknown, ...] = ()
    changes: tuple[AppliedChange, ...] = ()
    advisory: bool = False
    note: str = ""


_POD_REVIEW = msgspec.json.Decoder(PodReview)
_REVIEW = msgspec.json.Decoder(ObjectReview)
_NULL = b"null"
NO_DIGESTS: Mapping[str, str] = {}
UNSCANNED = Facts(scans={})
NOTHING = Verdict((), (), (), ())


@dataclass(frozen=True, slots=True)
class Known:
    """What a review is answered with. `now` is in Unix seconds.

    `namespaces` are the labels of each namespace; they are asked for where policies select by them.
    `images` tells what is known of images; without it `facts` are all there is. With `blind` nobody
    looks images up: no scan of theirs is known, which is not that none is needed.
    """

    governance: Governance
    now: float
    namespaces: Mapping[str, Labels] = field(default_factory=dict)
    facts: Facts = NO_FACTS
    images: Source | None = None
    blind: bool = False
    paths: Mapping[Kind, tuple[str, ...]] = field(default_factory=lambda: TEMPLATE_PATHS)

    def governed(self, request: Request, template: PodTemplate) -> Governed:
        """Raises NamespaceUnknown."""
        labels = self.namespaces.get(request.namespace)
        if labels is None and self.governance.needs_labels:
            raise NamespaceUnknown(request.namespace)
        return self.governance.governing(request.namespace, labels or {}, template.labels, self.now)

    def verdict(
        self,
        request: Request,
        workload: Workload,
        governed: Governed,
        *,
        judge: bool = True,
        facts: Facts | None = None,
    ) -> Verdict:
        """By these facts, or those that are asked for. Raises FactsNeeded."""
        facts = facts or self.asked(request, workload, governed, judge=judge)
        return evaluate(
            workload, governed.policy, facts, judge=judge, exemptions=governed.exemptions
        )

    def asked(
        self,
        request: Request,
        workload: Workload,
        governed: Governed,
        digests: Mapping[str, str | Missing] = NO_DIGESTS,
        *,
        judge: bool = True,
    ) -> Facts:
        """What has to be known; `digests` are, whatever registries say. Raises FactsNeeded."""
        found = self.facts
        if self.images is not None:
            asked = inquire(workload, request.namespace, governed, digests, judge=judge)
            known = self.images(asked) if asked is not None else found
            if asked is not None and known is None:
                raise FactsNeeded(asked)
            found = known or found
        elif self.blind and judge and scan_or_deny(governed.policy):
            found = UNSCANNED
        if digests:
            digests = {**found.digests, **digests}
        return Facts(
            found.images,
            digests or found.digests,
            found.architectures,
            request.userInfo.username,
            found.scans,
            self.now or found.now,
        )


def under(
    policy: Policy, facts: Facts = NO_FACTS, paths: Mapping[Kind, tuple[str, ...]] = TEMPLATE_PATHS
) -> Known:
    """One policy for everything, and no exceptions."""
    return Known(Governance(policy), now=0.0, facts=facts, paths=paths)


def respond(webhook: Webhook, body: bytes, known: Known) -> Answer:
    """The answer to one review. Raises BadReview, NamespaceUnknown and FactsNeeded; nothing else,
    whatever the body holds."""
    request = decode_request(body)
    try:
        if webhook == "mutate":
            return _mutate(request, known)
        return _validate(request, known)
    except Malformed as error:
        raise BadReview(400, f"request.object: {error}") from None


def decode_request(body: bytes) -> Request:
    """Nearly all reviews are of Pods. What is none, or no good one, is read in a second pass."""
    review: PodReview | ObjectReview | None = None
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        review = _POD_REVIEW.decode(body)
    if review is None or not review.request.of_pod:
        try:
            review = _REVIEW.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadReview(400, f"not an AdmissionReview: {error}") from None
    if review.apiVersion != API_VERSION or review.kind != "AdmissionReview":
        raise BadReview(400, f"only AdmissionReview of {API_VERSION} is understood")
    if not review.request.uid:
        raise BadReview(400, "request.uid: missing")
    return review.request


# --- mutate -------------------------------------------------------------------------------------


def _mutate(request: Request, known: Known) -> Answer:
    if not request.of_pod:
        return _mutate_metadata(request, known)
    workload = _mutable(request)
    if workload is None:
        return _allow(request)
    governed = known.governed(request, workload.template)
    if request.operation == "UPDATE" and not request.subResource:
        verdict = _of_new_images(request, known, workload, governed)
    else:
        verdict = known.verdict(request, workload, governed, judge=False)
    response: dict[str, Any] = {
        "uid": request.uid,
        "allowed": True,
        "auditAnnotations": _change_annotations(governed, verdict),
    }
    if verdict.unknowns:
        warnings = [messages.unknown_warning(workload, unknown) for unknown in verdict.unknowns]
        response["warnings"] = messages.bounded(warnings)
    if verdict.changes:
        patch = operations(workload, [applied.change for applied in verdict.changes])
        response["patchType"] = "JSONPatch"
        response["patch"] = b64encode(msgspec.json.encode(patch)).decode()
    return answer(request, response)


def _mutable(request: Request) -> Workload | None:
    """What may be changed: a Pod that is created, the containers that `kubectl debug` adds, or the
    images of a Pod that exists.

    Controllers' templates are never changed: whoever applied them would change them back. Of a
    mirror Pod everything was decided on its node.
    """
    if request.operation in ("CREATE", "UPDATE") and not request.subResource:
        pod = _pod_in(request.object, "object")
        return None if _is_mirror(request, pod) else _pod(request, pod)
    if request.operation == "UPDATE" and request.subResource == "ephemeralcontainers":
        return _ephemeral(request)
    return None


def _of_new_images(
    request: Request, known: Known, workload: Workload, governed: Governed
) -> Verdict:
    """Of a Pod that exists images alone may change. One that was applied again without the digest
    that it runs by keeps it; another one is resolved."""
    old = read_pod(_pod_in(request.oldObject, "oldObject"))
    before = {pointer: image for pointer, _, image in old.images}
    changed = {
        pointer: image for pointer, _, image in workload.images if before.get(pointer) != image
    }
    running = {
        image: before[pointer].partition("@")[2]
        for pointer, image in changed.items()
        if isinstance(image, str) and str(before.get(pointer)).startswith(f"{image}@")
    }
    if not changed:
        return NOTHING
    facts = known.asked(request, workload, governed, running, judge=False)
    verdict = known.verdict(request, workload, governed, judge=False, facts=facts)

    def of_changed(applied: Iterable[AppliedChange]) -> tuple[AppliedChange, ...]:
        return tuple(each for each in applied if each.change.path in changed)

    doubts = tuple(each for each in verdict.unknowns if each.path in changed)
    return Verdict(of_changed(verdict.changes), of_changed(verdict.proposed), (), doubts)


def _mutate_metadata(request: Request, known: Known) -> Answer:
    """Where digests stand, where others copy them, and who wrote what a scan says."""
    kind = Kind(request.kind.group, request.kind.kind)
    if kind in REVISIONS:
        return _pin_revision(request, known, kind)
    if kind in COPIES:
        return _annotate(request, _annotations(request.object, "object"), {})
    if kind in authorship.SCANS:
        value = _object(request.object, "object")
        old = _object(request.oldObject, "oldObject") if request.operation == "UPDATE" else None
        return _patched(request, authorship.operations(kind, value, old, request.userInfo.username))
    return _allow(request)


def _pin_revision(request: Request, known: Known, kind: Kind) -> Answer:
    """Its digests are found once, when it is made, and stay what they are."""
    value = _object(request.object, "object")
    updated = request.operation == "UPDATE"
    try:
        revision = read_revision(kind, value)
        before = read_revision(kind, _object(request.oldObject, "oldObject")) if updated else None
    except Malformed:
        return _allow(request)  # others keep what they like in a ControllerRevision
    there = _annotations(request.object, "object")
    if before is not None:
        return _annotate(request, there, kept(revision, before))
    found = _pins(request, known, revision)
    wanted = {revision.key: written(found)} if found else {}
    return _annotate(request, there, wanted if fits(there or {}, wanted) else {})


def _pins(request: Request, known: Known, revision: Revision) -> dict[str, str]:
    """What `pinned-digest` makes of the images under the policy that governs its Pods."""
    if not revision.images:
        return {}
    workload = read_pod(revision.template, kind=request.kind.kind, prefix="/spec/template")
    governed = known.governed(request, revision.template)
    if not pins(governed.policy):
        return {}
    verdict = known.verdict(request, workload, governed, judge=False)
    return pins_of(workload, verdict)


def pins_of(workload: Workload, verdict: Verdict) -> dict[str, str]:
    """The digests that a verdict gives to images, by their references as they stand."""
    texts = {pointer: image for pointer, _, image in workload.images}
    return {
        texts[each.change.path]: each.change.value.rpartition("@")[2]
        for each in verdict.changes
        if each.rule == pinned_digest.RULE.name and each.change.path in texts
    }


def _annotate(request: Request, there: Annotations | None, wanted: Annotations) -> Answer:
    return _patched(request, differences(there, wanted))


def _patched(request: Request, made: list[dict[str, Any]]) -> Answer:
    response: dict[str, Any] = {"uid": request.uid, "allowed": True}
    if made:
        response["patchType"] = "JSONPatch"
        response["patch"] = b64encode(msgspec.json.encode(made)).decode()
    return answer(request, response)


def _annotations(value: PodTemplate | Raw | None, field: str) -> Annotations | None:
    """Of an object; None where there is no such field."""
    found = _object(value, field)
    metadata = found.get("metadata") if isinstance(found, dict) else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return annotations if isinstance(annotations, dict) else None


def _change_annotations(governed: Governed, verdict: Verdict) -> dict[str, str]:
    annotations = {"policy": str(governed)}
    if verdict.changes:
        annotations["changes"] = _changes_text(verdict.changes)
    if verdict.proposed:
        annotations["would-change"] = _changes_text(verdict.proposed)
    if verdict.unknowns:
        annotations["unknowns"] = _unknowns_text(verdict.unknowns)
    return annotations


class _Change(Struct, frozen=True):
    rule: str
    op: str
    path: str


def _changes_text(changes: tuple[AppliedChange, ...]) -> str:
    return msgspec.json.encode(
        [
            _Change(applied.rule, applied.change.op, applied.change.path)
            for applied in changes[:MOST_TOLD]
        ]
    ).decode()


# --- validate -----------------------------------------------------------------------------------


def _validate(request: Request, known: Known) -> Answer:
    if request.operation == "DELETE":
        return _allow(request)
    if request.operation not in {"CREATE", "UPDATE"}:
        operation = messages.printable(request.operation)
        raise BadReview(400, f"request.operation: {operation} is not ours to judge")
    judge = _judge_pod if request.of_pod else _judge_template
    judgement = judge(request, known)
    return _allow(request) if judgement is None else _verdict_on(request, known, judgement)


def _judge_pod(request: Request, known: Known) -> _Judgement:
    """A Pod as it stands; of an update only what the Pod did not break before."""
    if request.subResource == "ephemeralcontainers":
        workload = _ephemeral(request)
        governed = known.governed(request, workload.template)
        facts = known.asked(request, workload, governed)
        verdict = known.verdict(request, workload, governed, facts=facts)
        return _Judgement(workload, governed, list(verdict.violations), facts, verdict.unknowns)
    pod = _pod_in(request.object, "object")
    workload = _pod(request, pod)
    governed = known.governed(request, pod)
    facts = known.asked(request, workload, governed)
    verdict = known.verdict(request, workload, governed, facts=facts)
    judgement = _Judgement(workload, governed, list(verdict.violations), facts, verdict.unknowns)
    judgement.advisory = _is_mirror(request, pod)
    if request.operation == "UPDATE":
        old = read_pod(_pod_in(request.oldObject, "oldObject"))
        broken = known.verdict(request, old, governed, facts=facts).violations
        before = {(violation.key, bool(violation.exception)) for violation in broken}
        judgement.violations = [
            v for v in verdict.violations if (v.key, bool(v.exception)) not in before
        ]
        judgement.unknowns = ()
    return judgement


def _judge_template(request: Request, known: Known) -> _Judgement | None:
    """A template as the Pods it would become; None where its owner was judged already."""
    kind, paths = Kind(request.kind.group, request.kind.kind), known.paths
    if kind not in paths:
        name = messages.printable(kind.kind)
        raise BadReview(400, f"request.kind: {name} holds no Pod template that is known")
    value = _object(request.object, "object")
    workload = read_object(value, paths)
    if workload is None:
        raise BadReview(400, f"request.object: is not a {kind.kind}")
    workload.name = workload.name or request.name
    if workload.owned:
        return None
    governed = known.governed(request, workload.template)
    facts = known.asked(request, workload, governed)
    verdict = known.verdict(request, workload, governed, facts=facts)
    judgement = _Judgement(
        workload, governed, list(verdict.remaining()), facts, verdict.unknowns, verdict.changes
    )
    if request.operation == "UPDATE":
        old = _object(request.oldObject, "oldObject")
        if template_of(old, paths[kind]) == template_of(value, paths[kind]):
            judgement.advisory = True
            judgement.note = "the Pod template is unchanged, so the update is let through"
    return judgement


def _verdict_on(request: Request, known: Known, judgement: _Judgement) -> Answer:
    workload, violations = judgement.workload, judgement.violations
    policy = judgement.governed.policy
    denied = [] if judgement.advisory else acting(violations, "Deny")
    response: dict[str, Any] = {"uid": request.uid, "allowed": not denied}
    if denied:
        response["status"] = _status(request, workload, denied, policy)
    warnings = _warnings(known, judgement)
    if not denied and not judgement.advisory and policy.warn_of_changes:
        warnings += messages.change_warnings(workload, judgement.changes)
    if warnings:
        response["warnings"] = messages.bounded(warnings)
    response["auditAnnotations"] = _violation_annotations(judgement)
    wanted: tuple[WantedScan, ...] = ()
    if judgement.facts.scans and not request.dryRun:
        wanted = wanted_scans(workload, request.namespace, policy, judgement.facts)
    controlled = workload.is_pod and workload.controlled
    return answer(
        request, response, controlled=controlled, violations=tuple(violations), wanted=wanted
    )


def _warnings(known: Known, judgement: _Judgement) -> list[str]:
    workload = judgement.workload
    warned = acting(judgement.violations, "Warn")
    lines = []
    if judgement.advisory and judgement.note:
        if acting(judgement.violations, "Deny"):
            lines.append(f"{messages.title(workload)} breaks the policy: {judgement.note}")
        warned = acting(judgement.violations, "Deny", "Warn")
    lines += [messages.violation_warning(workload, violation) for violation in warned]
    lines += [messages.unknown_warning(workload, unknown) for unknown in judgement.unknowns]
    for name in dict.fromkeys(v.exception for v in judgement.violations if v.exception):
        exemption = known.governance.exemption(name)
        if exemption is not None and exemption.expires - known.now < EXPIRES_SOON:
            lines.append(messages.expiry_warning(workload, exemption, known.now))
    return lines


class _Cause(Struct, frozen=True):
    reason: str
    message: str
    field: str


def _status(
    request: Request, workload: Workload, denied: list[Violation], policy: Policy
) -> dict[str, Any]:
    """A metav1.Status with one cause per violation."""
    causes = [
        _Cause(
            "FieldValueForbidden",
            f"{violation.rule}: {violation.finding.detail}",
            messages.place(workload, violation.finding.path),
        )
        for violation in denied[:MOST_TOLD]
    ]
    return {
        "status": "Failure",
        "code": 403,
        "reason": "Forbidden",
        "message": messages.denial(workload, denied, policy.title),
        "details": {
            "name": messages.printable(workload.name),
            "group": request.kind.group,
            "kind": request.kind.kind,
            "causes": causes,
        },
    }


def _violation_annotations(judgement: _Judgement) -> dict[str, str]:
    annotations = {"policy": str(judgement.governed)}
    if judgement.violations:
        rows = [_row(violation) for violation in judgement.violations[:MOST_TOLD]]
        annotations["violations"] = msgspec.json.encode(rows).decode()
    if judgement.unknowns:
        annotations["unknowns"] = _unknowns_text(judgement.unknowns)
    return annotations


class _Row(Struct, frozen=True, omit_defaults=True):
    rule: str
    container: str
    path: str
    detail: str
    actions: list[str]
    exception: str = ""


def _row(violation: Violation) -> _Row:
    finding = violation.finding
    return _Row(
        violation.rule,
        messages.printable(finding.container),
        messages.printable(finding.path),
        finding.detail,
        _in_order(violation.actions),
        messages.printable(violation.exception),
    )


# There are eight sets of actions.
_in_order = lru_cache(maxsize=8)(sorted)


class _Unknown(Struct, frozen=True):
    rule: str
    container: str
    detail: str


def _unknowns_text(unknowns: tuple[Unknown, ...]) -> str:
    rows = [
        _Unknown(unknown.rule, messages.printable(unknown.container), unknown.detail)
        for unknown in unknowns[:MOST_TOLD]
    ]
    return msgspec.json.encode(rows).decode()


# --- shared -------------------------------------------------------------------------------------


def _pod(request: Request, pod: PodTemplate) -> Workload:
    workload = read_pod(pod)
    workload.name = workload.name or request.name
    workload.namespace = request.namespace
    return workload


def _ephemeral(request: Request) -> Workload:
    new = _pod_in(request.object, "object")
    old = _pod_in(request.oldObject, "oldObject")
    return ephemeral_workload(new, old)


def _is_mirror(request: Request, pod: PodTemplate) -> bool:
    """A kubelet shows a static Pod. The annotation alone, which anybody can set, says nothing."""
    metadata = pod.metadata
    return (
        metadata is not None
        and MIRROR_ANNOTATION in (metadata.annotations or ())
        and NODES_GROUP in (request.userInfo.groups or ())
    )


def _pod_in(value: PodTemplate | Raw | None, field: str) -> PodTemplate:
    if isinstance(value, PodTemplate):
        return value
    return decode_pod(_required(value, field))


def _object(value: PodTemplate | Raw | None, field: str) -> Any:
    return object_of(_required(value, field), field)


def object_of(value: Raw, field: str) -> Any:
    """None for what is not there. Raises BadReview."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadReview(400, f"request.{field}: {error}") from None


def _required(value: PodTemplate | Raw | None, field: str) -> Raw:
    if not isinstance(value, Raw) or bytes(value) == _NULL:
        raise BadReview(400, f"request.{field}: missing")
    return value


def _allow(request: Request) -> Answer:
    return answer(request, {"uid": request.uid, "allowed": True})


def answer(
    request: Request,
    response: dict[str, Any],
    *,
    controlled: bool = False,
    violations: tuple[Violation, ...] = (),
    wanted: tuple[WantedScan, ...] = (),
) -> Answer:
    review = {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
    return Answer(
        body=msgspec.json.encode(review),
        uid=request.uid,
        operation=request.operation,
        kind=request.kind.kind,
        namespace=request.namespace,
        allowed=response["allowed"],
        name=request.name,
        api_version="/".join(filter(None, (request.kind.group, request.kind.version))),
        dry_run=bool(request.dryRun),
        controlled=controlled,
        wanted=wanted,
        message=response["status"]["message"] if "status" in response else "",
        mutated="patch" in response,
        violations=violations,
    )
