"""What the engine says of a Pod: changes, violations, unknowns. Rendering is done elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from msgspec import Struct

Op = Literal["add", "replace", "remove"]
Action = Literal["Deny", "Warn", "Audit"]


class Change(Struct, frozen=True):
    """A value to set or remove, by JSON Pointer from the Pod's root.

    Parents that are missing are made; a last token `-` appends to a list. `add` on a value that is
    there is a defect of the rule: what a user set is never overwritten, except by `replace` where
    the rule's own docstring says so.
    """

    path: str
    value: Any = None
    op: Op = "add"


class Finding(Struct, frozen=True):
    """What a rule objects to. With `changes` the rule knows the remedy and can apply it itself.

    `detail` completes "container "app": …" and `remedy` "spec.containers[0].image: …"; `path` is a
    JSON Pointer from the Pod's root; `container` is "" for what belongs to the whole Pod.
    A `confidential` finding's value, the one at `path`, is shown to nobody. One that is mended
    `at_admission` takes a fact for it that is not known here, and will be there.
    """

    path: str
    detail: str
    remedy: str
    container: str = ""
    changes: tuple[Change, ...] = ()
    confidential: bool = False
    at_admission: bool = False


class Unknown(Struct, frozen=True):
    """A fact that could not be had, so that a rule could not decide."""

    path: str
    detail: str
    container: str = ""
    rule: str = ""


class AppliedChange(Struct, frozen=True):
    rule: str
    reason: str
    change: Change


class Violation(Struct, frozen=True):
    """A finding under a policy. `fixed` says that the verdict's own changes take it away, or
    those of the admission;
    `exception` names what lifts it, a HardeningException or an exempt user; "" where nothing does.
    """

    rule: str
    finding: Finding
    actions: frozenset[Action]
    fixed: bool
    exception: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two violations the same in two versions of an object."""
        return self.rule, self.finding.container, self.finding.detail


class Verdict(Struct, frozen=True):
    """`changes` are to be made; `proposed` are those of rules whose mutation is `DryRun`."""

    changes: tuple[AppliedChange, ...]
    proposed: tuple[AppliedChange, ...]
    violations: tuple[Violation, ...]
    unknowns: tuple[Unknown, ...]

    def remaining(self) -> tuple[Violation, ...]:
        """The violations that stay once the changes are made."""
        return tuple(violation for violation in self.violations if not violation.fixed)


def acting(violations: Iterable[Violation], *actions: Action) -> list[Violation]:
    """Those that lead to one of the actions; none that an exception lifts."""
    return [v for v in violations if not v.exception and not v.actions.isdisjoint(actions)]


def field_path(pointer: str) -> str:
    """A JSON Pointer as Kubernetes writes field paths: `/spec/containers/0` → `spec.containers[0]`.

    Keys that are not plain names stand in brackets: `metadata.annotations[batten.dev/x]`.
    """
    path = ""
    for token in pointer.split("/")[1:]:
        if token.isalpha():
            path += f".{token}" if path else token
            continue
        key = pointer_key(token)
        if key.isdecimal() or not key.replace("-", "").isalnum():
            path += f"[{key}]"
        else:
            path += f".{key}" if path else key
    return path


def pointer_token(key: str) -> str:
    """A key as one token of a JSON Pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")


def pointer_key(token: str) -> str:
    """The key that a token of a JSON Pointer names; the other way round of `pointer_token`."""
    return token.replace("~1", "/").replace("~0", "~") if "~" in token else token
