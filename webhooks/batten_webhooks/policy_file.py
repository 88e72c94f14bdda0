"""A HardeningPolicy (batten.dev/v1alpha1) read from a file.

The models are made from the rules themselves: a rule's `parameters` are its options, in camelCase.
Of a policy in a cluster a file has no `match` and no `priority`: it governs what it is given for.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.alias_generators import to_camel

from batten_webhooks.manifests import Document, Manifest, ManifestError
from batten_webhooks.messages import printable
from batten_webhooks.policy import Mutation, Policy, Setting, contained
from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import SHOWN_LENGTH, VERSIONS, Rule, Version, shown
from batten_webhooks.verdict import Action, field_path, pointer_token

LATEST = "latest"
# Fields of a policy in a cluster that a file has no use for.
IN_A_CLUSTER = {("spec", "match"), ("spec", "priority")}
# Where these are wrong it is something else, whose other fields say nothing.
WHAT_IT_IS = {("apiVersion",), ("kind",)}

# Pydantic's types of errors, in words that complete "must be …".
EXPECTED = {
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "an object",
    "string_pattern_mismatch": "a name such as my-policy",
    "string_too_long": "a name such as my-policy",
    "string_type": "a string",
}

Location = tuple[str | int, ...]


class PolicyError(Exception):
    """Everything that is wrong with the file, each with its place in it; one a line."""


class Model(BaseModel):
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


class Defaults(Model):
    """For every rule that does not say otherwise; advice keeps its own actions."""

    mutation: Mutation = "Enabled"
    validation_actions: list[Action] = ["Deny"]


class Metadata(Model):
    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")


def _rule_model(rule: Rule) -> type[Model]:
    options: dict[str, Any] = {"validation_actions": (list[Action] | None, None)}
    if rule.mutates:
        options["mutation"] = (Mutation | None, None)
    for parameter in fields(rule.parameters):
        options[parameter.name] = (type(parameter.default), parameter.default)
    return create_model(rule.name, __base__=Model, **options)


Rules = create_model(
    "Rules",
    __base__=Model,
    **{
        rule.name.replace("-", "_"): (_rule_model(rule) | None, Field(None, alias=rule.name))
        for rule in RULES
    },  # type: ignore[call-overload]
)


class Spec(Model):
    pod_security_version: str = LATEST
    defaults: Defaults = Defaults()
    rules: Rules = Rules()  # type: ignore[valid-type]


class HardeningPolicy(Model):
    api_version: Literal["batten.dev/v1alpha1"]
    kind: Literal["HardeningPolicy"]
    metadata: Metadata
    spec: Spec = Spec()


def load(data: bytes, name: str) -> Policy:
    """The policy in a file of that name. Raises PolicyError."""
    try:
        manifest = Manifest.parse(data, name=name)
    except ManifestError as error:
        raise PolicyError(f"{name}:{error}") from None
    documents = [document for document in manifest.documents if document.value is not None]
    if not documents:
        raise PolicyError(f"{name}: holds no HardeningPolicy")
    if len(documents) > 1:
        raise _error(name, documents[1], [((), "a second document: put one policy in a file")])
    value = documents[0].value
    kind = value.get("kind") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind.endswith("List"):
        wrong = f"must be HardeningPolicy, not {shown(kind)}: put one policy in a file, by itself"
        raise _error(name, documents[0], [(("kind",), wrong)])
    return _read(name, documents[0])


def _read(name: str, document: Document) -> Policy:
    try:
        policy = HardeningPolicy.model_validate(document.value)
    except ValidationError as error:
        found = [(details["loc"], _message(dict(details))) for details in error.errors()]
        found = [wrong for wrong in found if wrong[0] in WHAT_IT_IS] or found
        raise _error(name, document, found) from None
    wrong: list[tuple[Location, str]] = []
    version = _version(policy.spec.pod_security_version)
    if version is None:
        known = [LATEST, *(f"v{major}.{minor}" for major, minor in VERSIONS)]
        wrong.append((("spec", "podSecurityVersion"), f"must be {_either(known)}"))
    settings = []
    for rule in RULES:
        model = getattr(policy.spec.rules, rule.name.replace("-", "_"))
        try:
            settings.append(_setting(rule, model, policy.spec.defaults))
        except ValueError as error:
            wrong.append(_parameter(rule, str(error)))
    if wrong or version is None:
        raise _error(name, document, wrong)
    title = f'HardeningPolicy "{policy.metadata.name}"'
    return Policy(title, contained(settings), version)


def _setting(rule: Rule, model: Any, defaults: Defaults) -> Setting:
    """Raises ValueError where the parameters contradict each other."""
    said = model.model_dump(exclude_unset=True) if model is not None else {}
    mutation = said.pop("mutation", None) or defaults.mutation
    actions = said.pop("validation_actions", None)
    if actions is None:
        actions = rule.actions if rule.level == "advice" else defaults.validation_actions
    return Setting(
        rule=rule,
        mutation=mutation if rule.mutates else "Disabled",
        actions=frozenset(actions),
        parameters=rule.parameters(**said),
    )


def _version(text: str) -> Version | None:
    if text == LATEST:
        return VERSIONS[-1]
    return next((v for v in VERSIONS if text == f"v{v[0]}.{v[1]}"), None)


def _error(name: str, document: Document, found: list[tuple[Location, str]]) -> PolicyError:
    lines = []
    for location, message in found:
        place = document.locate("".join(f"/{pointer_token(str(token))}" for token in location))
        field = printable(
            field_path("".join(f"/{pointer_token(str(token))}" for token in location))
        )
        lines.append((place.line, place.column, f"{field}: {message}" if field else message))
    return PolicyError(
        "\n".join(f"{name}:{line}:{col}: {text}" for line, col, text in sorted(lines))
    )


def _message(error: dict[str, Any]) -> str:
    location, kind, given = error["loc"], error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown(location)
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"must be {_either(allowed)}{_instead_of(given, allowed)}"
    expected = EXPECTED.get(kind) or str(error["msg"]).removeprefix("Input should be ")
    hint = ": quote it" if kind == "string_type" and isinstance(given, int | float) else ""
    return f"must be {expected}{_instead_of(given)}{hint}"


def _unknown(location: Location) -> str:
    if location in IN_A_CLUSTER:
        return "is for policies in a cluster: a file governs whatever it is given for"
    known = _known_fields(location[:-1])
    what = "rule" if location[:-1] == ("spec", "rules") else "field"
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"unknown {what}: " + (
        f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    )


def _instead_of(given: Any, allowed: Sequence[str] = ()) -> str:
    if not isinstance(given, str):
        return (
            "" if given is None or isinstance(given, dict | list) else f", not {json.dumps(given)}"
        )
    close = difflib.get_close_matches(given.capitalize(), allowed, n=1) if allowed[1:] else ()
    quoted = shown(given) if allowed else json.dumps(given[:SHOWN_LENGTH])
    return f", not {quoted}" + (f": did you mean {close[0]}?" if close else "")


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _known_fields(location: Location) -> list[str]:
    model: Any = HardeningPolicy
    for token in location:
        field = next(f for f in model.model_fields.values() if f.alias == token)
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return [field.alias or name for name, field in model.model_fields.items()]


def _parameter(rule: Rule, text: str) -> tuple[Location, str]:
    """A rule's complaint of its parameters, which it begins with the name of one."""
    location: Location = ("spec", "rules", rule.name)
    for parameter in fields(rule.parameters):
        alias = to_camel(parameter.name)
        if text.startswith(parameter.name + " "):
            location, text = (*location, alias), text.removeprefix(parameter.name + " ")
        text = text.replace(parameter.name, alias)
    return location, text
