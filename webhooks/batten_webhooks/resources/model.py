"""What both kinds share: how fields are named and read, label selectors, conditions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from batten_webhooks.selectors import Requirement, Selector, selector

GROUP = "batten.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# `batten rollout` names every namespace of a cluster.
MOST_VALUES = 10_000

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _label_key(text: str) -> str:
    prefix, slash, name = text.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _DOMAIN.fullmatch(prefix)) or len(prefix) > 253:
        raise ValueError("must be a label's key, such as team or example.com/team")
    return text


def _label_value(text: str) -> str:
    if text and not _NAME.fullmatch(text):
        raise ValueError("must be a label's value: up to 63 letters, digits, -, _ and .")
    return text


def _dns_label(text: str) -> str:
    if not _DNS_LABEL.fullmatch(text):
        raise ValueError("must be a name: up to 63 small letters, digits and -")
    return text


LabelKey = Annotated[str, AfterValidator(_label_key), Field(max_length=317)]
LabelValue = Annotated[str, AfterValidator(_label_value), Field(max_length=63)]
DnsLabel = Annotated[str, AfterValidator(_dns_label), Field(max_length=63)]


class Model(BaseModel):
    """Fields in camelCase, none unknown, nothing converted."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", strict=True, frozen=True, populate_by_name=False
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_said(cls, value: Any) -> Any:
        """As in Kubernetes: `spec:` with nothing behind it is no mistake."""
        if not isinstance(value, dict):
            return value
        known = {field.alias for field in cls.model_fields.values()}
        return {key: each for key, each in value.items() if each is not None or key not in known}


class Metadata(Model):
    """As much of metav1.ObjectMeta as is read."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")


class Expression(Model):
    """One requirement on a label."""

    key: LabelKey = Field(description="The label's key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label relates to the values."
        " NotIn and DoesNotExist match what does not have the label."
    )
    values: list[LabelValue] = Field(
        default=[],
        max_length=MOST_VALUES,
        description="The values of In and NotIn; none for Exists and DoesNotExist.",
    )

    @model_validator(mode="after")
    def _values_where_they_count(self) -> Expression:
        if bool(self.values) != (self.operator in {"In", "NotIn"}):
            wants = "must not be empty" if not self.values else "must be left out"
            raise ValueError(f"values {wants} with the operator {self.operator}")
        return self


class LabelSelector(Model):
    """A metav1.LabelSelector: all of its requirements must be met."""

    match_labels: dict[LabelKey, LabelValue] = Field(
        default={}, max_length=100, description="Labels with the one value that each must have."
    )
    match_expressions: list[Expression] = Field(
        default=[], max_length=100, description="Further requirements on labels."
    )

    def selector(self) -> Selector:
        return selector(
            self.match_labels,
            tuple(
                Requirement(e.key, e.operator, frozenset(e.values)) for e in self.match_expressions
            ),
        )


class Condition(Model):
    """A metav1.Condition."""

    type: str = Field(description="What the condition is about, in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation that it was found for."
    )
    last_transition_time: str = Field(
        description="When `status` last changed.", json_schema_extra={"format": "date-time"}
    )
    reason: str = Field(description="Why, in one CamelCase word.")
    message: str = Field(description="Why, in words.")
