"""HardeningException: what is lifted for whom, why, and until when."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from batten_webhooks.governance import Exemption
from batten_webhooks.image_pattern import InvalidPattern, parse_pattern
from batten_webhooks.resources.invalid import validated
from batten_webhooks.resources.model import Condition, DnsLabel, LabelSelector, Metadata, Model
from batten_webhooks.rules import RULES
from batten_webhooks.selectors import EVERYTHING

_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def _time(text: str) -> str:
    try:
        if not _RFC_3339.fullmatch(text):
            raise ValueError
        datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("must be a time of RFC 3339, such as 2027-03-31T00:00:00Z") from None
    return text


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("must say why")
    return text


def _image(text: str) -> str:
    try:
        parse_pattern(text)
    except InvalidPattern as error:
        raise ValueError(f"{error}") from None
    return text


RuleName = Literal[tuple(rule.name for rule in RULES)]  # type: ignore[valid-type]
Time = Annotated[
    str, AfterValidator(_time), Field(max_length=64, json_schema_extra={"format": "date-time"})
]
Reason = Annotated[str, AfterValidator(_reason), Field(min_length=1, max_length=4096)]
Image = Annotated[str, AfterValidator(_image), Field(max_length=500)]


class ExceptionMatch(Model):
    """Which containers of which Pods: all that is given must be met."""

    namespaces: list[DnsLabel] = Field(
        min_length=1, max_length=1000, description="The names of the Pods' Namespaces."
    )
    pod_selector: LabelSelector | None = Field(
        default=None, description="Labels of the Pods. Left out: every Pod of the Namespaces."
    )
    containers: list[DnsLabel] = Field(
        default=[],
        max_length=100,
        description="Names of containers of any sort. Left out: all of them, and the Pod itself.",
    )
    images: list[Image] = Field(
        default=[],
        max_length=100,
        description="Images, such as registry.example/legacy/*: a registry (docker.io where there"
        " is none) and a repository, in each part of which one * may stand for anything, and"
        " everything below where it is the last part; with :TAG or @DIGEST only that. Left out:"
        " all images, and the Pod itself.",
    )


class ExceptionSpec(Model):
    """What is lifted for whom, why, and until when."""

    match: ExceptionMatch = Field(description="Which containers of which Pods.")
    rules: list[RuleName] = Field(  # type: ignore[valid-type]
        min_length=1,
        max_length=100,
        description="The rules that are lifted. A weaker rule which one of them contains holds on.",
    )
    reason: Reason = Field(description="Why, for whoever finds it later.")
    expires: Time = Field(
        description="When it ends, in RFC 3339, such as 2027-03-31T00:00:00Z. Pods that run then"
        " go on running."
    )


class ExceptionStatus(Model):
    """What was found of the exception; written by the controller."""

    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation that the status is of."
    )
    conditions: list[Condition] = Field(
        default=[],
        description="Accepted: it is in force. ExpiresSoon: it ends within 14 days. Expired: it"
        " has ended.",
    )


class HardeningException(Model):
    """Lifts rules for some containers for a time. What is lifted is still recorded."""

    api_version: Literal["batten.dev/v1alpha1"]
    kind: Literal["HardeningException"]
    metadata: Metadata
    spec: ExceptionSpec = Field(description="What is lifted for whom, why, and until when.")
    status: Any = None


def read_exception(value: Any) -> Exemption:
    """From an object of the API or of a file. Raises Invalid."""
    exception = validated(HardeningException, value)
    spec, match = exception.spec, exception.spec.match
    return Exemption(
        name=exception.metadata.name,
        namespaces=frozenset(match.namespaces),
        rules=frozenset(spec.rules),
        reason=spec.reason,
        expires=datetime.fromisoformat(spec.expires.upper()).timestamp(),
        pods=match.pod_selector.selector() if match.pod_selector else EVERYTHING,
        containers=frozenset(match.containers),
        images=tuple(map(parse_pattern, match.images)),
    )
