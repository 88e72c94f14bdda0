"""What a rule is: a name, a level, and one function from a Pod to its findings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from batten_webhooks.evidence.scans import Scans
from batten_webhooks.image_facts import ImageFacts
from batten_webhooks.verdict import Action, Finding, Unknown
from batten_webhooks.workload import Workload

# `baseline` and `restricted` are the Pod Security Standards' own controls, nothing else is;
# `hardened` goes beyond them; `advice` never denies unless a policy says so.
Level = Literal["baseline", "restricted", "hardened", "advice"]

# The Pod Security Standards' versions the rules know, oldest first.
Version = tuple[int, int]
VERSIONS: tuple[Version, ...] = ((1, 33), (1, 34), (1, 35), (1, 36), (1, 37))

# Since then the standards ask less of Pods in a user namespace (`hostUsers: false`, KEP-127).
USER_NAMESPACES_SINCE: Version = (1, 35)

# A user's text in a message is cut after this many characters.
SHOWN_LENGTH = 300

DENY: frozenset[Action] = frozenset(("Deny",))
WARN: frozenset[Action] = frozenset(("Warn",))
AUDIT: frozenset[Action] = frozenset(("Audit",))


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact that was asked for in vain; `why` completes "image X is not pinned: …"."""

    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beyond the object.

    `images` is what images say of themselves; a reference that is missing from it is not known.
    `digests` are what tags mean; nobody has asked for those that are not among them.
    `architectures` are those of the cluster's nodes, none where that is not known.
    `requester` is who asks for the object, as the API server names users; "" where nobody does.
    `scans` are what was found of images' scans, by their references; None where nobody looks for
    any. `now` is in Unix seconds.
    """

    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    digests: Mapping[str, str | Missing] = field(default_factory=dict)
    architectures: frozenset[str] = frozenset()
    requester: str = ""
    scans: Mapping[str, Scans] | None = None
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Context:
    """`version` is the Pod Security Standards' version to judge by.

    For the containers `apart` the rule is lifted: what is set must not reach them. Without
    `volumes` no rule of the policy mounts what is missing.
    """

    facts: Facts
    version: Version
    apart: frozenset[str] = frozenset()
    volumes: bool = True


@dataclass(frozen=True, slots=True)
class NoParameters:
    """The rule has none."""


@dataclass(frozen=True, slots=True)
class Cel:
    """A rule as a ValidatingAdmissionPolicy can say it, in CEL: what is true of a Pod that is fine.

    `pod` is asked once, `container` of each container `c` of any sort. They know `variables.spec`
    (the Pod's), `variables.windows` and `variables.userNamespace`. `detail` says the way out.
    With `of_image` containers whose image alone has changed are asked about again.
    """

    detail: str
    pod: str = ""
    container: str = ""
    of_image: bool = False


Check = Callable[[Workload, Any, Context], Iterator[Finding | Unknown]]
ToCel = Callable[[Any, Version], Cel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One requirement. `doc` is its module's docstring: its specification and its page.

    `check` yields findings; those that carry changes are what the rule can mend by itself.
    `parameters` is a frozen dataclass whose fields are the policy's options for this rule.
    `overrides` names weaker rules that find nothing which this one, with its default parameters,
    does not.
    With `reads_images` what images say of themselves is asked for.
    `cel` says the same in CEL, of rules that look at nothing but the object's fields.
    """

    name: str
    level: Level
    doc: str
    check: Check
    mutates: bool = False
    actions: frozenset[Action] = DENY
    parameters: type = NoParameters
    overrides: tuple[str, ...] = ()
    cel: ToCel | None = None
    reads_images: bool = False

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.doc.partition("\n")[0].rstrip(".")


def cel_unless_user_namespace(version: Version) -> str:
    """What exempts Pods in a user namespace where the standards of this version do."""
    return "variables.userNamespace || " if version >= USER_NAMESPACES_SINCE else ""


def cel_list(words: Iterable[str]) -> str:
    """A list of strings in CEL."""
    return json.dumps(sorted(words))


def shown(text: str) -> str:
    """A user's text for a message: plain text as it stands, any other quoted, escaped and cut."""
    if 0 < len(text) <= SHOWN_LENGTH and text.isprintable() and " " not in text:
        return text
    quoted = json.dumps(text[:SHOWN_LENGTH]).replace("\x7f", r"\u007f")
    return quoted + ("…" if len(text) > SHOWN_LENGTH else "")
