"""kopf handlers that review our own kinds: a wrong policy is refused where it is applied."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import kopf

from batten_webhooks.evidence.attestations.keys import parse_keys
from batten_webhooks.governance import Governance, GoverningPolicy, conflicts
from batten_webhooks.messages import bounded
from batten_webhooks.resources import (
    Invalid,
    read_exception,
    read_image_scan,
    read_policy,
    read_profile,
)
from batten_webhooks.resources.invalid import Location
from batten_webhooks.resources.model import GROUP, VERSION
from batten_webhooks.rules import scanned_image

logger = logging.getLogger(__name__)

T = TypeVar("T")
# The ids of the handlers, which are the resources' plurals.
REVIEWED = frozenset(("hardeningpolicies", "hardeningexceptions", "imageprofiles", "imagescans"))


def register(registry: kopf.OperatorRegistry, governance: Callable[[], Governance]) -> None:
    """`governance` is what holds while the review is answered."""

    @kopf.on.validate(
        GROUP, VERSION, "hardeningpolicies", id="hardeningpolicies", registry=registry
    )
    async def policy(body: kopf.Body, warnings: list[str], **_: Any) -> None:
        read = _read(_policy, body)
        others = [other for other in governance().policies if other.name != read.name]
        _refuse_twin(read, others)
        warnings += bounded(conflicts(read, others))

    @kopf.on.validate(
        GROUP, VERSION, "hardeningexceptions", id="hardeningexceptions", registry=registry
    )
    async def exception(body: kopf.Body, warnings: list[str], **_: Any) -> None:
        read = _read(read_exception, body)
        if read.expires <= time.time():
            warnings.append(
                f'HardeningException "{read.name}": spec.expires is past: it lifts nothing'
            )

    @kopf.on.validate(GROUP, VERSION, "imageprofiles", id="imageprofiles", registry=registry)
    async def profile(body: kopf.Body, **_: Any) -> None:
        _read(read_profile, body)

    @kopf.on.validate(GROUP, VERSION, "imagescans", id="imagescans", registry=registry)
    async def scan(body: kopf.Body, **_: Any) -> None:
        _read(read_image_scan, body)


def unknown(error: Exception) -> bool:
    """Whether kopf does not know the kind, as it was not defined when its watches began. The class
    is not exported."""
    return type(error).__name__ == "UnknownResourceError"


def _policy(value: Any) -> GoverningPolicy:
    """With keys that are keys. Raises Invalid."""
    read = read_policy(value)
    scanning = read.policy.setting(scanned_image.RULE)
    sources = scanning.parameters.sources if scanning is not None else ()
    place: Location = ("spec", "rules", scanned_image.RULE.name, "sources")
    wrong: list[tuple[Location, str]] = []
    for index, source in enumerate(sources):
        try:
            parse_keys(source.keys)
        except ValueError as error:
            wrong.append(((*place, index, "keys"), str(error)))
    if wrong:
        raise Invalid(wrong)
    return read


def _read(read: Callable[[Any], T], body: kopf.Body) -> T:
    """Raises kopf.AdmissionError, whatever the object holds."""
    value = dict(body)
    metadata = dict(value.get("metadata") or {})
    metadata.setdefault("name", metadata.get("generateName", "") + "x")
    try:
        return read({**value, "metadata": metadata})
    except Invalid as error:
        lines = [f'{value.get("kind")} "{metadata["name"]}" is not valid:']
        lines += [
            f"  {path}: {message}" if path else f"  {message}" for path, message in error.errors
        ]
        raise kopf.AdmissionError("\n".join(lines), code=422) from None
    except Exception:
        logger.exception("review of an own object failed")
        raise kopf.AdmissionError("internal error, see the operator's log", code=500) from None


def _refuse_twin(policy: GoverningPolicy, others: Iterable[GoverningPolicy]) -> None:
    """Of two that match the same Pods with one priority one could never govern."""
    for other in others:
        same = (other.priority, other.namespaces, other.pods)
        if same == (policy.priority, policy.namespaces, policy.pods):
            raise kopf.AdmissionError(
                f'HardeningPolicy "{policy.name}" is not valid:\n'
                f'  spec.priority: HardeningPolicy "{other.name}" matches the same Pods with'
                f" priority {other.priority}: give one of them another priority or another match",
                code=422,
            )
