"""`batten explain --for FILE`: which policy governs its workloads, why, and what is lifted."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from batten_webhooks.cli import CannotRun, command_module
from batten_webhooks.cli.files import (
    Source,
    Subject,
    Unrelated,
    Unusable,
    parse,
    read,
    sources,
    subjects,
)
from batten_webhooks.cli.judge import read_governing_files
from batten_webhooks.cli.terminal import styler
from batten_webhooks.governance import Exemption, Governance
from batten_webhooks.messages import printable
from batten_webhooks.selectors import Labels
from batten_webhooks.workload import TEMPLATE_PATHS, Workload


def run(options: Namespace) -> int:
    found = [each for source in sources([options.file]) for each in _workloads(source)]
    if options.policy is None:
        live = command_module("batten_operator.audit")
        governance, namespaces = live.governing(options)
    else:
        governance, namespaces = read_governing_files([*options.policy, options.file])
    styled = styler(options.color)
    for source, subject in found:
        line = subject.document.locate(subject.pointer).line
        where = f"{source.shown}:{line}"
        workload = subject.workload
        workload.namespace = workload.namespace or options.namespace
        place = printable(workload.namespace)
        print(f"{styled('bold', _name(workload))} in namespace {place} ({where})")
        print("\n".join(f"  {line}" for line in _lines(workload, where, governance, namespaces)))
    return 0


def _workloads(source: Source) -> Iterator[tuple[Source, Subject]]:
    """Raises CannotRun."""
    try:
        found = subjects(source, parse(source, read(source)), TEMPLATE_PATHS)
    except Unrelated as error:
        raise CannotRun(f"{source.shown}: {error}") from None
    except Unusable as error:
        raise CannotRun(str(error)) from None
    for subject in found:
        yield source, subject


def _name(workload: Workload) -> str:
    return f'{workload.kind} "{printable(workload.name)}"'


def _lines(
    workload: Workload, where: str, governance: Governance, namespaces: Mapping[str, Labels]
) -> Iterator[str]:
    namespace = workload.namespace or ""
    if governance.needs_labels and namespace not in namespaces:
        raise CannotRun(
            f"{where}: the labels of the namespace {printable(namespace)!r} decide and are not"
            " known: add its Namespace to a file of --policy"
        )
    metadata = workload.template.metadata
    pods: Labels = (metadata.labels if metadata is not None else None) or {}
    labels, now = namespaces.get(namespace, {}), time.time()
    governed = governance.governing(namespace, labels, pods, now)
    yield f"governed by {governed.policy.title}: {governed.why}"
    for policy in governance.matching(namespace, labels, pods):
        if policy.policy is not governed.policy:
            yield f"also matches: {policy.policy.title} ({policy.why}), which it outranks"
    for exemption in governance.exemptions:
        if namespace in exemption.namespaces and exemption.pods.matches(pods):
            yield _exemption(exemption, now)


def _exemption(exemption: Exemption, now: float) -> str:
    end = datetime.fromtimestamp(exemption.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    whom = [f"container {name}" for name in sorted(exemption.containers)]
    whom += [f"image {pattern.text}" for pattern in exemption.images]
    return (
        f'HardeningException "{exemption.name}" '
        f"{'lifts' if exemption.expires > now else 'lifted'} {', '.join(sorted(exemption.rules))}"
        f"{' for ' + ', '.join(whom) if whom else ''} until {end}: {printable(exemption.reason)}"
    )
