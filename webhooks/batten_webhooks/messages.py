"""Violations in words that a developer can act on, the same at every door."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache

from batten_webhooks.governance import Exemption
from batten_webhooks.verdict import AppliedChange, Change, Unknown, Violation, field_path
from batten_webhooks.workload import Workload

# A denial names this many violations one by one; the rest are counted.
MOST_VIOLATIONS = 50
# kubectl shows 256 characters of a warning; the API server passes on 4096 of them together
# (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/).
WARNING_LENGTH = 256
WARNINGS_LENGTH = 4096
# Names have at most 253 characters, keys of annotations 317.
LONGEST_NAME = 500
LONGEST_REMEMBERED = 256


def denial(workload: Workload, violations: Sequence[Violation], policy: str) -> str:
    """The refusal of a request: every violation with its place and remedy."""
    rules = list(dict.fromkeys(violation.rule for violation in violations))
    count = "1 rule" if len(rules) == 1 else f"{len(rules)} rules"
    breaks = "would create Pods that break" if workload.prefix else "breaks"
    lines = [f"{title(workload)} {breaks} {count} of {policy}:"]
    for violation in violations[:MOST_VIOLATIONS]:
        finding = violation.finding
        lines.append(f"  {violation.rule}: {subject(finding.container)}{finding.detail}")
        lines.append(f"    {place(workload, finding.path)}: {finding.remedy}")
    if len(violations) > MOST_VIOLATIONS:
        lines.append(f"  … and {len(violations) - MOST_VIOLATIONS} more")
    details = f"Details: batten explain {rules[0] if len(rules) == 1 else 'RULE'}"
    if any(violation.finding.changes for violation in violations):
        details += " · fix a file: batten harden FILE"
    return "\n".join([*lines, details])


def title(workload: Workload) -> str:
    return f'{workload.kind} "{printable(workload.name)}"'


def subject(container: str) -> str:
    return f'container "{printable(container)}": ' if container else ""


def place(workload: Workload, pointer: str) -> str:
    """A field path in the object that the user applied, from a pointer within its Pod."""
    pointer = workload.prefix + pointer
    return _remembered(pointer) if len(pointer) <= LONGEST_REMEMBERED else _place(pointer)


def _place(pointer: str) -> str:
    return printable(field_path(pointer))


# The same few places are told of again and again.
_remembered = lru_cache(maxsize=2048)(_place)


def printable(text: str) -> str:
    """A name or a path, cut where no true one ends, and escaped where it would forge lines, colour
    a terminal or be refused by an API server: warnings are HTTP headers."""
    if len(text) <= LONGEST_NAME and text.isprintable():
        return text
    if len(text) > LONGEST_NAME:
        text = text[:LONGEST_NAME] + "…"
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def violation_warning(workload: Workload, violation: Violation) -> str:
    """With the remedy where kubectl has room for it."""
    finding = violation.finding
    what = f"{title(workload)}: {violation.rule}: {subject(finding.container)}{finding.detail}"
    where = place(workload, finding.path)
    with_remedy = f"{what} ({where}: {finding.remedy})"
    return with_remedy if len(with_remedy) <= WARNING_LENGTH else f"{what} ({where})"


def unknown_warning(workload: Workload, unknown: Unknown) -> str:
    return (
        f"{title(workload)}: {unknown.rule}: {subject(unknown.container)}{unknown.detail} "
        f"({place(workload, unknown.path)})"
    )


def change_warnings(workload: Workload, changes: Iterable[AppliedChange]) -> list[str]:
    """What of its Pods will differ from the template: a line for the Pod, one per container."""
    containers = {site.pointer: site.name for site in workload.sites}
    lines: dict[str, list[str]] = {}
    for applied in changes:
        path = applied.change.path
        owner = "/".join(path.split("/", 4)[:4])  # as /spec/containers/0
        owner = owner if owner in containers else ""
        words = _difference(applied.change, path.removeprefix(owner))
        if words:
            lines.setdefault(owner, []).append(words)
    return [
        f"{title(workload)}: {_owner(containers.get(owner, ''))} {', '.join(words)}"
        for owner, words in sorted(lines.items())
    ]


def _owner(container: str) -> str:
    return f'container "{printable(container)}" gets' if container else "its Pods get"


def _difference(change: Change, path: str) -> str:
    """A change in a few words; "" for what only serves another one."""
    if path.startswith(("/spec/volumes/", "/metadata/")):
        return ""
    value = change.value
    if path.startswith("/volumeMounts/"):
        return f"an emptyDir at {printable(str(value['mountPath']))}"
    field = field_path(path.removesuffix("/-"))
    field = field.removeprefix("spec.").removeprefix("securityContext.")
    if change.op == "remove":
        return f"no {printable(field)}"
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        field += f".{key}"
    text = value if isinstance(value, str) else json.dumps(value)
    return printable(f"{field}: [{text}]" if path.endswith("/-") else f"{field}: {text}")


def expiry_warning(workload: Workload, exemption: Exemption, now: float) -> str:
    """`now` is in Unix seconds."""
    days = int((exemption.expires - now) // 86400)
    left = "within a day" if days < 1 else "in 1 day" if days == 1 else f"in {days} days"
    rules = ", ".join(sorted(exemption.rules))
    return (
        f'{title(workload)}: HardeningException "{exemption.name}" ends {left} '
        f"({exemption.end}): {rules} will hold then"
    )


def bounded(warnings: Iterable[str]) -> list[str]:
    """Each warning once and within kubectl's length, all of them within the API server's."""
    result: list[str] = []
    left = WARNINGS_LENGTH - WARNING_LENGTH
    lines = list(dict.fromkeys(_cut(warning) for warning in warnings))
    for index, line in enumerate(lines):
        left -= len(line.encode())
        if left < 0:
            result.append(f"and {len(lines) - index} more warnings: run batten check on the file")
            break
        result.append(line)
    return result


def _cut(warning: str) -> str:
    return warning if len(warning) <= WARNING_LENGTH else warning[: WARNING_LENGTH - 1] + "…"
