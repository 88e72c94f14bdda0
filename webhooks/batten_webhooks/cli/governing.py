"""`batten explain --for FILE`: which policy governs its workloads, why, and what is lifted."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator, Mapping

from batten_webhooks.cli import CannotRun, command_module
from batten_webhooks.cli.files import parse, read, required, sources, subjects
from batten_webhooks.cli.judge import read_governing_files
from batten_webhooks.cli.terminal import styler
from batten_webhooks.governance import Exemption, Governance
from batten_webhooks.messages import printable, title
from batten_webhooks.selectors import Labels
from batten_webhooks.workload import TEMPLATE_PATHS, Workload


def run(options: Namespace) -> int:
    files, found = [], []
    for source in sources([options.file]):
        with required(source):
            data = read(source)
            files.append((source.shown, data))
            workloads = subjects(source, parse(source, data), TEMPLATE_PATHS)
            found += [(source, each) for each in workloads]
    if not found:
        raise CannotRun(f"{options.file}: holds no workload that a policy could govern")
    if options.policy is None:
        live = command_module("batten_operator.audit")
        governance, namespaces = live.governing(options)
    else:
        governance, namespaces = read_governing_files(options.policy, files)
    styled = styler(options.color)
    for source, subject in found:
        line = subject.document.locate(subject.pointer).line
        where = f"{source.shown}:{line}"
        workload = subject.workload
        workload.namespace = workload.namespace or options.namespace
        place = printable(workload.namespace)
        print(f"{styled('bold', title(workload))} in namespace {place} ({where})")
        print("\n".join(f"  {line}" for line in _lines(workload, where, governance, namespaces)))
    return 0


def _lines(
    workload: Workload, where: str, governance: Governance, namespaces: Mapping[str, Labels]
) -> Iterator[str]:
    namespace = workload.namespace or ""
    if governance.needs_labels and namespace not in namespaces:
        raise CannotRun(
            f"{where}: the labels of the namespace {printable(namespace)!r} decide and are not"
            " known: add its Namespace to a file of --policy"
        )
    pods, labels, now = workload.template.labels, namespaces.get(namespace, {}), time.time()
    governed = governance.governing(namespace, labels, pods, now)
    yield f"governed by {governed.policy.title}: {governed.why}"
    for policy in governance.matching(namespace, labels, pods):
        if policy.policy is not governed.policy:
            yield f"also matches: {policy.policy.title} ({policy.why}), which it outranks"
    for exemption in governance.exemptions:
        if namespace in exemption.namespaces and exemption.pods.matches(pods):
            yield _exemption(exemption, now)


def _exemption(exemption: Exemption, now: float) -> str:
    whom = [f"container {name}" for name in sorted(exemption.containers)]
    whom += [f"image {pattern.text}" for pattern in exemption.images]
    lifts = "lifts" if exemption.expires > now else "lifted"
    rules, of = ", ".join(sorted(exemption.rules)), f" for {', '.join(whom)}" if whom else ""
    return (
        f'HardeningException "{exemption.name}" {lifts} {rules}{of} until {exemption.end}: '
        + printable(exemption.reason)
    )
