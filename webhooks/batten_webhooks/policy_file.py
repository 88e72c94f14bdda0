"""A HardeningPolicy (batten.dev/v1alpha1) read from a file.

The models are made from the rules themselves: a rule's `parameters` are its options, in camelCase.
Of a policy in a cluster a file has no `match` and no `priority`: it governs what it is given for.
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.alias_generators import to_camel

from batten_webhooks.manifests import Document, Manifest, ManifestError
from batten_webhooks.manifests.text import LARGEST_FILE
from batten_webhooks.policy import Mutation, Policy, Setting
from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import VERSIONS, Rule, Version
from batten_webhooks.verdict import Action

API_VERSION = "batten.dev/v1alpha1"
LATEST = "latest"


class PolicyError(Exception):
    """What is wrong with the file, with the place in it; one line."""


class Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", strict=True, frozen=True, populate_by_name=False
    )


class Defaults(Model):
    """For every rule that does not say otherwise; advice keeps its own actions."""

    mutation: Mutation = "Enabled"
    validation_actions: list[Action] = ["Deny"]


class Metadata(Model):
    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=253)


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


def load(name: str) -> Policy:
    """The policy in a file. Raises PolicyError."""
    try:
        with Path(name).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise PolicyError(
            f"--policy {name}: neither a preset nor a readable file ({reason})"
        ) from None
    try:
        manifest = Manifest.parse(data, name=name)
    except ManifestError as error:
        raise PolicyError(f"{name}:{error}") from None
    documents = [document for document in manifest.documents if document.value is not None]
    if len(documents) != 1:
        raise PolicyError(f"{name}: holds {len(documents)} documents, expected one HardeningPolicy")
    return _read(name, documents[0])


def _read(name: str, document: Document) -> Policy:
    try:
        policy = HardeningPolicy.model_validate(document.value)
    except ValidationError as error:
        first = error.errors()[0]
        raise _at(name, document, first["loc"], _message(dict(first))) from None
    version = _version(policy.spec.pod_security_version)
    if version is None:
        known = ", ".join([LATEST, *(f"v{major}.{minor}" for major, minor in VERSIONS)])
        raise _at(name, document, ("spec", "podSecurityVersion"), f"must be one of {known}")
    settings = []
    for rule in RULES:
        model = getattr(policy.spec.rules, rule.name.replace("-", "_"))
        try:
            settings.append(_setting(rule, model, policy.spec.defaults))
        except ValueError as error:
            raise _at(
                name, document, ("spec", "rules", rule.name), _in_camel(rule, error)
            ) from None
    return Policy(
        f'HardeningPolicy "{policy.metadata.name}"', _without_overridden(settings), version
    )


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


def _without_overridden(settings: list[Setting]) -> tuple[Setting, ...]:
    """Without weaker rules whose stronger one leads to as much."""
    overridden = {
        weaker: setting.actions for setting in settings for weaker in setting.rule.overrides
    }
    return tuple(
        setting
        for setting in settings
        if not setting.actions <= overridden.get(setting.rule.name, frozenset())
    )


def _version(text: str) -> Version | None:
    if text == LATEST:
        return VERSIONS[-1]
    return next((v for v in VERSIONS if text == f"v{v[0]}.{v[1]}"), None)


def _at(name: str, document: Document, loc: tuple[Any, ...], message: str) -> PolicyError:
    place = document.locate("".join(f"/{token}" for token in loc))
    field = ".".join(str(token) for token in loc)
    return PolicyError(f"{name}:{place.line}:{place.column}: {field}: {message}")


def _message(error: dict[str, Any]) -> str:
    if error["type"] != "extra_forbidden":
        return str(error["msg"][:1].lower() + error["msg"][1:])
    known = _known_fields(error["loc"][:-1])
    close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"unknown field: {hint}"


def _known_fields(loc: tuple[Any, ...]) -> list[str]:
    model: Any = HardeningPolicy
    for token in loc:
        field = next(f for f in model.model_fields.values() if f.alias == token)
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return [field.alias or name for name, field in model.model_fields.items()]


def _in_camel(rule: Rule, error: ValueError) -> str:
    text = str(error)
    for parameter in fields(rule.parameters):
        text = text.replace(parameter.name, to_camel(parameter.name))
    return text
