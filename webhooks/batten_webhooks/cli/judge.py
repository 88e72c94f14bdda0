"""Judge files: what the formatters print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from batten_webhooks.cli import CannotRun
from batten_webhooks.cli.files import Source, Subject, Unrelated, Unusable, read_file, reason
from batten_webhooks.cli.fixes import Edit
from batten_webhooks.governance import Governance
from batten_webhooks.manifests import Manifest
from batten_webhooks.manifests.text import Text
from batten_webhooks.messages import place, subject, title
from batten_webhooks.policy import PRESETS, Policy
from batten_webhooks.rules.rule import WARN
from batten_webhooks.selectors import Labels
from batten_webhooks.verdict import Finding, Verdict, Violation
from batten_webhooks.workload import TEMPLATE_PATHS, Kind, parse_kinds

if TYPE_CHECKING:
    from batten_webhooks.policy_file import Found

# Named as in SARIF: Deny is an error, Warn a warning, Audit a note.
Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One violation with its place in a file; `line` and `column` count from 1.

    `fixable` says that hardening the file under the same policy takes it away; `edits` would do
    that for it alone, where they were asked for.
    """

    file: str
    line: int
    column: int
    text: str
    level: Level
    rule: str
    message: str
    field: str
    remedy: str
    object: str
    container: str
    fixable: bool
    edits: tuple[Edit, ...]

    @property
    def place(self) -> tuple[str, int, int]:
        return self.file, self.line, self.column


@dataclass(slots=True)
class Result:
    """`unusable` are files that could not be judged, `skipped` those that have nothing to judge."""

    problems: list[Problem] = field(default_factory=list)
    unusable: list[Unusable] = field(default_factory=list)
    skipped: list[tuple[Source, str]] = field(default_factory=list)
    judged: list[Source] = field(default_factory=list)
    workloads: int = 0

    def count(self, level: Level) -> int:
        return sum(problem.level == level for problem in self.problems)

    @property
    def code(self) -> int:
        """The exit code."""
        if self.unusable:
            return 2
        return 1 if self.count("error") else 0

    def pass_over(self, source: Source, reason: Unrelated, *, lenient: bool) -> None:
        """A file without objects is unusable where it was named, unless that was foreseen."""
        if source.named and not lenient:
            self.unusable.append(Unusable(source, str(reason)))
        else:
            self.skipped.append((source, str(reason)))


def problem(
    source: Source, lines: Text, found: Subject, violation: Violation, edits: Sequence[Edit] = ()
) -> Problem:
    """`lines` are those of the file that may be shown."""
    finding, workload = violation.finding, found.workload
    at = found.document.locate(found.pointer + workload.prefix + finding.path)
    return Problem(
        file=source.shown,
        line=at.line,
        column=at.column,
        text=lines.line(at.line),
        level=_level(violation),
        rule=violation.rule,
        message=f"{subject(finding.container)}{finding.detail}",
        field=place(workload, finding.path),
        remedy=finding.remedy,
        object=title(workload),
        container=finding.container,
        fixable=violation.fixed and bool(finding.changes),
        edits=tuple(edits),
    )


def doubts(verdict: Verdict) -> list[Violation]:
    """What is not known of the Pod that the changes lead to: warnings, as the webhooks give."""
    return [
        Violation(
            unknown.rule,
            Finding(
                path=unknown.path,
                container=unknown.container,
                detail=unknown.detail,
                remedy=f"see batten explain {unknown.rule}",
            ),
            WARN,
            fixed=False,
        )
        for unknown in verdict.unknowns
    ]


def shown_lines(manifest: Manifest, violations: Iterable[tuple[Subject, Violation]]) -> Text:
    """The file's lines without the values of confidential findings."""
    return manifest.lines(
        found.document.span(found.pointer + found.workload.prefix + violation.finding.path)
        for found, violation in violations
        if violation.finding.confidential
    )


def _level(violation: Violation) -> Level:
    if "Deny" in violation.actions:
        return "error"
    return "warning" if "Warn" in violation.actions else "note"


def read_policy(name: str) -> Policy:
    """A preset by its name, else a file. Raises CannotRun."""
    preset = PRESETS.get(name)
    if preset is not None:
        return preset
    from batten_webhooks.policy_file import (  # noqa: PLC0415 - pydantic takes its time
        PolicyError,
        load,
    )

    try:
        return load(_policy_bytes(name), name)
    except PolicyError as error:
        raise CannotRun(str(error)) from None


def read_governance(names: Sequence[str]) -> Governance:
    """What the policies and exceptions of these files demand; a preset governs what none of them
    matches, `hardened` where none is named. Raises CannotRun."""
    governance, _ = read_governing_files(names)
    files = [name for name in names if name not in PRESETS]
    if files and not (governance.policies or governance.exemptions):
        raise CannotRun(f"--policy {files[0]}: holds no HardeningPolicy")
    return governance


def read_governing_files(
    names: Sequence[str], beside: Iterable[tuple[str, bytes]] = ()
) -> tuple[Governance, Mapping[str, Labels]]:
    """As `read_governance`, with the labels of the Namespaces in the files; `beside` are the names
    and contents of files that were read already."""
    presets = [name for name in names if name in PRESETS]
    if len(presets) > 1:
        raise CannotRun(f"--policy: {' and '.join(presets)}: only one of them can govern")
    files = [(name, _policy_bytes(name)) for name in names if name not in PRESETS]
    found = read_objects_of([*files, *beside])
    for name, _ in files:
        if name not in found.files:
            held = "no HardeningPolicy, HardeningException or Namespace"
            raise CannotRun(f"--policy {name}: holds {held}")
    return found.governance(PRESETS[presets[0] if presets else "hardened"]), found.namespaces


def read_objects_of(files: Iterable[tuple[str, bytes]]) -> Found:
    """Policies, exceptions and Namespaces in files of these names and contents.

    Raises CannotRun.
    """
    from batten_webhooks.policy_file import (  # noqa: PLC0415 - pydantic takes its time
        PolicyError,
        load_all,
    )

    try:
        return load_all(files)
    except PolicyError as error:
        raise CannotRun(str(error)) from None


def _policy_bytes(name: str) -> bytes:
    try:
        return read_file(name)
    except (OSError, ValueError) as error:
        presets = ", ".join(PRESETS)
        raise CannotRun(
            f"--policy {name}: neither one of {presets} nor a readable file ({reason(error)})"
        ) from None


def read_kinds(text: str) -> dict[Kind, tuple[str, ...]]:
    """The known kinds and those of `--kinds`. Raises CannotRun."""
    try:
        return {**TEMPLATE_PATHS, **parse_kinds(text)}
    except ValueError as error:
        raise CannotRun(f"--kinds: {error}") from None
