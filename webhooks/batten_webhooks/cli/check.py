"""`batten check`: what is wrong with files as they stand, or as the webhooks would admit them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from batten_webhooks.cli.asking import asking, facts
from batten_webhooks.cli.files import Progress, Unrelated, Unusable, parse, read, sources, subjects
from batten_webhooks.cli.fixes import affordable, edits
from batten_webhooks.cli.judge import Result, doubts, problem, read_kinds, read_policy, shown_lines
from batten_webhooks.engine import evaluate
from batten_webhooks.verdict import Verdict, Violation

if TYPE_CHECKING:
    from batten_webhooks.cli.registries import LookUp


def run(options: Namespace) -> int:
    with asking(options, wanted=options.look_up_images) as look_up:
        result = judge(options, look_up)
    import_module(f"batten_webhooks.cli.formats.{options.format}").write(result, options)
    return result.code


def judge(options: Namespace, look_up: LookUp | None = None) -> Result:
    policy, kinds = read_policy(options.policy), read_kinds(options.kinds)
    result = Result()
    files = sources(options.paths)
    progress = Progress(len(files))
    for number, source in enumerate(files):
        progress.step(number)
        try:
            data = read(source)
            manifest = parse(source, data)
            found = subjects(source, manifest, kinds)
            known = facts(look_up, found)
        except Unrelated as reason:
            result.pass_over(source, reason, lenient=options.skip_unrelated)
            continue
        except Unusable as error:
            result.unusable.append(error)
            continue
        result.judged.append(source)
        result.workloads += len(found)
        violations = [
            (each, violation)
            for each in found
            for violation in _violations(evaluate(each.workload, policy, known), options)
        ]
        lines = shown_lines(manifest, violations)
        mend = options.format == "sarif" and affordable(data, [each for _, each in violations])
        for each, violation in violations:
            fix = edits(manifest, data, each, violation) if mend else ()
            result.problems.append(problem(source, lines, each, violation, fix))
    progress.end()
    result.problems.sort(key=lambda problem: problem.place)
    return result


def _violations(verdict: Verdict, options: Namespace) -> Sequence[Violation]:
    if options.as_admitted:
        return [*verdict.remaining(), *doubts(verdict)]
    return verdict.violations
