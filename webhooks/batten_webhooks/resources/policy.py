"""HardeningPolicy: what is demanded of which Pods.

A rule's `parameters` are its options, in camelCase: this file need not change for a new rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, Field, create_model, model_validator
from pydantic.alias_generators import to_camel

from batten_webhooks.governance import GoverningPolicy
from batten_webhooks.policy import Mutation, Policy, Setting, contained
from batten_webhooks.resources.invalid import Invalid, Location, either, validated
from batten_webhooks.resources.model import Condition, LabelSelector, Metadata, Model
from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import DENY, VERSIONS, Rule, Version
from batten_webhooks.selectors import EVERYTHING
from batten_webhooks.verdict import Action

LATEST = "latest"
KNOWN_VERSIONS = (LATEST, *(f"v{major}.{minor}" for major, minor in VERSIONS))
_SERVICE_ACCOUNT = re.compile(r"system:serviceaccount:([-a-z0-9]{1,63}):[-.a-z0-9]{1,253}")


def _exempt_user(name: str) -> str:
    """Controllers create Pods for everybody: to exempt one is to exempt all."""
    if not name.strip():
        raise ValueError("must name a user")
    if name.startswith("system:"):
        account = _SERVICE_ACCOUNT.fullmatch(name)
        if account is None or account[1] == "kube-system":
            raise ValueError(
                "must be a person or a ServiceAccount outside kube-system, as"
                " system:serviceaccount:NAMESPACE:NAME: Kubernetes' own users act for everybody"
            )
    return name


ExemptUser = Annotated[str, AfterValidator(_exempt_user), Field(max_length=500)]
Actions = Annotated[list[Action], Field(max_length=3)]


class Match(Model):
    """Which Pods: those that meet both selectors; all of them without any."""

    namespace_selector: LabelSelector | None = Field(
        default=None, description="Labels of the Pods' Namespaces. Left out: every Namespace."
    )
    pod_selector: LabelSelector | None = Field(
        default=None,
        description="Labels of the Pods. It needs a namespaceSelector that selects by something:"
        " labels of Pods are their authors' own.",
    )

    @model_validator(mode="after")
    def _pods_of_named_namespaces(self) -> Match:
        pods = self.pod_selector is not None and self.pod_selector.selector().requirements
        named = self.namespace_selector is not None and self.namespace_selector.selector()
        if pods and not (named and named.requirements):
            raise ValueError(
                "podSelector needs a namespaceSelector that selects by something: labels of Pods"
                " are their authors' own"
            )
        return self


class Defaults(Model):
    """For every rule that does not say otherwise; what only warns keeps its own actions."""

    mutation: Mutation = Field(
        default="Enabled",
        description="Whether Pods are changed (Enabled, the default), it is only told how they"
        " would be (DryRun), or neither (Disabled).",
    )
    validation_actions: Actions = Field(
        default=["Deny"],
        description="What violations lead to: any of Deny, Warn and Audit; none switches the"
        " checks off. Default: [Deny].",
    )


def _rule_model(rule: Rule) -> type[Model]:
    options: dict[str, Any] = {}
    if rule.mutates:
        options["mutation"] = (
            Mutation | None,
            Field(None, description="Instead of defaults.mutation."),
        )
    options["validation_actions"] = (
        Actions | None,
        Field(None, description="Instead of defaults.validationActions."),
    )
    options["exempt_users"] = (
        list[ExemptUser],
        Field(
            [],
            max_length=100,
            description="Users, such as system:serviceaccount:NAMESPACE:NAME, whose own requests"
            " the rule does not hold. Pods that a controller creates are the controller's.",
        ),
    )
    name = "".join(word.title() for word in rule.name.split("-"))
    options |= _options(rule.parameters, _first_sentence(rule.parameters))
    return create_model(name, __base__=Model, __doc__=rule.summary + ".", **options)


def _options(shape: Any, general: str) -> dict[str, Any]:
    """The fields of a dataclass, each described by its own annotation or by the `general` words."""
    hints, options = get_type_hints(shape, include_extras=True), dict[str, Any]()
    for option in fields(shape):
        hint, description = hints[option.name], general
        if get_origin(hint) is Annotated:
            hint, description = get_args(hint)
        default: Any = option.default
        if isinstance(default, tuple):
            default = [] if any(map(is_dataclass, default)) else list(default)
        if default is MISSING:
            default = ...
        elif default not in ("", []) or description is general:
            description += f" Default: {default}."
        options[option.name] = _yaml_type(hint), Field(default, description=description)
    return options


def _first_sentence(shape: Any) -> str:
    """What the options are, in the rule's own words."""
    return f"{' '.join((shape.__doc__ or '').split()).partition('. ')[0].rstrip('.')}."


def _yaml_type(hint: Any) -> Any:
    if get_origin(hint) is tuple:
        return Annotated[list[_yaml_type(get_args(hint)[0])], Field(max_length=100)]  # type: ignore[misc]
    return _option_model(hint) if isinstance(hint, type) and is_dataclass(hint) else hint


@cache
def _option_model(shape: type[Any]) -> type[Model]:
    """An option that is an object itself."""
    options = _options(shape, _first_sentence(shape))
    return create_model(shape.__name__, __base__=Model, __doc__=shape.__doc__, **options)


class _Within(ValueError):
    """What is wrong with an option of an option."""

    def __init__(self, place: Location, shape: Any, error: ValueError) -> None:
        super().__init__(str(error))
        self.place, self.shape = place, shape


def _made(shape: Any, said: Mapping[str, Any]) -> Any:
    """What a model said, as the rule's own dataclass. Raises ValueError."""
    hints = get_type_hints(shape)
    return shape(**{name: _option(name, hints[name], value) for name, value in said.items()})


def _option(name: str, hint: Any, value: Any) -> Any:
    if get_origin(hint) is not tuple:
        return value
    (item, _) = get_args(hint)
    if not is_dataclass(item):
        return tuple(value)
    made = []
    for index, each in enumerate(value):
        try:
            made.append(_made(item, each))
        except ValueError as error:
            raise _Within((to_camel(name), index), item, error) from None
    return tuple(made)


Rules = create_model(
    "Rules",
    __base__=Model,
    __doc__="One field for each rule; `batten explain RULE` tells of it.",
    **{
        rule.name.replace("-", "_"): (
            _rule_model(rule) | None,
            Field(None, alias=rule.name, description=rule.summary + "."),
        )
        for rule in RULES
    },  # type: ignore[call-overload]
)


class PolicySpec(Model):
    """What is demanded of which Pods."""

    priority: int = Field(
        default=0,
        ge=-(2**31),
        lt=2**31,
        description="Of all policies that match a Pod exactly one governs it: the one of highest"
        " priority, of equal ones the first by name. Default: 0.",
        json_schema_extra={"format": "int32"},
    )
    match: Match = Field(default=Match(), description="Which Pods. Left out: all of them.")
    pod_security_version: str = Field(
        default=LATEST,
        description="The version of the Pod Security Standards to judge by: latest (the default)"
        f" or v{VERSIONS[0][0]}.{VERSIONS[0][1]} to v{VERSIONS[-1][0]}.{VERSIONS[-1][1]}.",
        json_schema_extra={"enum": list(KNOWN_VERSIONS)},
    )
    defaults: Defaults = Field(
        default=Defaults(),
        description="For every rule that does not say otherwise; advice, and what depends on"
        " registries, keeps its own actions.",
    )
    rules: Rules = Field(  # type: ignore[valid-type]
        default=Rules(),
        description="One field for each rule that is to differ from the defaults;"
        " `batten explain RULE` tells of each.",
    )
    warn_of_changes: bool = Field(
        default=True,
        description="Whether who applies a Deployment or the like is told how its Pods will"
        " differ. Default: true.",
    )


class Workloads(Model):
    """How many workloads of the cluster the policy meets; Pods of one owner are one."""

    governed: int = Field(default=0, ge=0, description="Those that it governs.")
    changed: int = Field(default=0, ge=0, description="Those whose Pods it changes.")
    refused: int = Field(default=0, ge=0, description="Those whose Pods it would refuse.")


class PolicyStatus(Model):
    """What was found of the policy; written by the controller."""

    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation that the status is of."
    )
    conditions: list[Condition] = Field(
        default=[],
        description="Accepted: it is in force. Conflict: another one shares its"
        " priority and may match the same Pods.",
    )
    workloads: Workloads = Field(
        default=Workloads(), description="How many workloads of the cluster it meets."
    )


class HardeningPolicy(Model):
    """Demands on Pods. Exactly one policy governs a Pod: of those that match it the one of highest
    priority, else the operator's built-in one."""

    api_version: Literal["batten.dev/v1alpha1"]
    kind: Literal["HardeningPolicy"]
    metadata: Metadata
    spec: PolicySpec = Field(default=PolicySpec(), description="What is demanded of which Pods.")
    status: Any = None


def read_policy(value: Any) -> GoverningPolicy:
    """From an object of the API or of a file. Raises Invalid."""
    policy = validated(HardeningPolicy, value)
    spec = policy.spec
    wrong: list[tuple[Location, str]] = []
    version = _version(spec.pod_security_version)
    if version is None:
        wrong.append((("spec", "podSecurityVersion"), f"must be {either(KNOWN_VERSIONS)}"))
    settings = []
    for rule in RULES:
        model = getattr(spec.rules, rule.name.replace("-", "_"))
        try:
            settings.append(_setting(rule, model, spec.defaults))
        except ValueError as error:
            wrong.append(_located(("spec", "rules", rule.name), rule.parameters, error))
    if wrong or version is None:
        raise Invalid(wrong)
    name, match = policy.metadata.name, spec.match
    return GoverningPolicy(
        name=name,
        priority=spec.priority,
        namespaces=match.namespace_selector.selector() if match.namespace_selector else EVERYTHING,
        pods=match.pod_selector.selector() if match.pod_selector else EVERYTHING,
        policy=Policy(
            f'HardeningPolicy "{name}"',
            contained(settings),
            version,
            warn_of_changes=spec.warn_of_changes,
        ),
    )


def _setting(rule: Rule, model: Any, defaults: Defaults) -> Setting:
    """Raises ValueError where the parameters contradict each other."""
    said = model.model_dump(exclude_unset=True) if model is not None else {}
    mutation = said.pop("mutation", None) or defaults.mutation
    actions = said.pop("validation_actions", None)
    exempt_users = said.pop("exempt_users", ())
    if actions is None:
        actions = defaults.validation_actions if rule.actions == DENY else rule.actions
    return Setting(
        rule=rule,
        mutation=mutation if rule.mutates else "Disabled",
        actions=frozenset(actions),
        parameters=_made(rule.parameters, said),
        exempt_users=frozenset(exempt_users),
    )


def _version(text: str) -> Version | None:
    if text == LATEST:
        return VERSIONS[-1]
    return next((v for v in VERSIONS if text == f"v{v[0]}.{v[1]}"), None)


def _located(location: Location, shape: Any, error: ValueError) -> tuple[Location, str]:
    """A complaint of options, which begins with the name of one."""
    text = str(error)
    if isinstance(error, _Within):
        location, shape = location + error.place, error.shape
    for parameter in fields(shape):
        alias = to_camel(parameter.name)
        if text.startswith(parameter.name + " "):
            location, text = (*location, alias), text.removeprefix(parameter.name + " ")
        text = text.replace(parameter.name, alias)
    return location, text
