"""`batten images`: which images files run, and what registries tell of them."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict, dataclass
from typing import Any

from batten_webhooks.cli import CannotRun
from batten_webhooks.cli.files import (
    Unrelated,
    images,
    parse,
    read,
    required,
    sources,
    subjects,
)
from batten_webhooks.cli.judge import read_kinds
from batten_webhooks.cli.registries import Contents, Failure, LookUp
from batten_webhooks.cli.terminal import Styled, styler
from batten_webhooks.images.content import PlatformImage
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.messages import printable, title

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Use:
    """Where a reference stands; `container` is "" for a volume of the Pod's."""

    file: str
    line: int
    object: str
    container: str


Answer = Contents | Failure


def run(options: Namespace) -> int:
    uses = _uses(options)
    with LookUp(options) as look_up:
        answers = look_up.contents(uses)
    ordered = sorted(uses)
    if options.format == "json":
        values = [_value(text, uses[text], answers[text]) for text in ordered]
        print(json.dumps({"version": SCHEMA, "images": values}, indent=2))
    else:
        styled = styler(options.color)
        print("\n\n".join(_text(text, uses[text], answers[text], styled) for text in ordered))
    return 1 if any(isinstance(answer, Exception) for answer in answers.values()) else 0


def _uses(options: Namespace) -> dict[str, list[Use]]:
    """Where each reference is used. Raises CannotRun for the first file that cannot be read."""
    kinds, found = read_kinds(options.kinds), dict[str, list[Use]]()
    for source in sources(options.paths):
        with required(source):
            try:
                workloads = subjects(source, parse(source, read(source)), kinds)
            except Unrelated:
                if source.named and not options.skip_unrelated:
                    raise
                continue
        for place in images(workloads):
            subject = place.subject
            line, whose = subject.document.locate(place.path).line, title(subject.workload)
            use = Use(source.shown, line, whose, printable(place.container))
            found.setdefault(place.text, []).append(use)
    if not found:
        raise CannotRun("no image is named in these files")
    return found


def _value(text: str, uses: list[Use], answer: Answer) -> dict[str, Any]:
    value: dict[str, Any] = {"reference": text, "digest": None, "platforms": [], "error": None}
    if isinstance(answer, Exception):
        reason = answer.reason if isinstance(answer, RegistryError) else "invalid-reference"
        value["error"] = {"reason": reason, "message": str(answer)}
    else:
        value["digest"] = answer[0]
        value["platforms"] = [_platform(each) for each in answer[1]]
    return value | {"uses": [asdict(use) for use in uses]}


def _platform(image: PlatformImage) -> dict[str, Any]:
    execution = image.configuration.execution
    return {
        "platform": str(image.platform),
        "digest": image.digest,
        "size": image.size,
        "user": execution.user,
        "workingDir": execution.working_dir,
        "volumes": sorted(execution.volumes or ()),
        "exposedPorts": sorted(execution.exposed_ports or ()),
    }


def _text(text: str, uses: list[Use], answer: Answer, styled: Styled) -> str:
    lines = [styled("bold", printable(text))]
    if isinstance(answer, Exception):
        lines.append(f"  {styled('error', 'error')}: {answer}")
    else:
        digest, platforms = answer
        lines.append(f"  {digest}")
        width = max((len(str(each.platform)) for each in platforms), default=0)
        for each in platforms:
            told = f"{size(each.size):>10}  {_user(each.configuration.execution.user)}"
            lines.append(f"  {each.platform!s:<{width}}  {told}")
    for use in uses:
        container = f' container "{use.container}",' if use.container else " a volume,"
        lines.append(styled("dim", f"  {use.file}:{use.line}:{container} {use.object}"))
    return "\n".join(lines)


def _user(user: str) -> str:
    if not user:
        return "user root: the image names none"
    return f"user {printable(user)[:100]}"


def size(count: int) -> str:
    """Bytes in the units of `kubectl` and `docker`: 12.3 MB is 12,300,000."""
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
