"""`batten check`: what is wrong with files as they stand, or as the webhooks would admit them."""

from __future__ import annotations

from argparse import Namespace
from importlib import import_module

from batten_webhooks.cli.files import Progress, Unrelated, Unusable, parse, read, sources, subjects
from batten_webhooks.cli.judge import Result, problems, read_kinds, read_policy
from batten_webhooks.engine import evaluate


def run(options: Namespace) -> int:
    result = judge(options)
    import_module(f"batten_webhooks.cli.formats.{options.format}").write(result, options)
    return result.code


def judge(options: Namespace) -> Result:
    policy, kinds = read_policy(options.policy), read_kinds(options.kinds)
    result = Result()
    files = sources(options.paths)
    progress = Progress(len(files))
    for number, source in enumerate(files):
        progress.step(number)
        try:
            manifest = parse(source, read(source))
            found = subjects(source, manifest, kinds)
        except Unrelated as reason:
            result.pass_over(source, reason, lenient=options.skip_unrelated)
            continue
        except Unusable as error:
            result.unusable.append(error)
            continue
        result.files += 1
        result.workloads += len(found)
        for each in found:
            verdict = evaluate(each.workload, policy)
            violations = verdict.remaining() if options.as_admitted else verdict.violations
            result.problems += problems(source, each, violations)
    progress.end()
    result.problems.sort(key=lambda problem: problem.place)
    return result
