"""Search for inputs that break reviews, files, image references and evidence of scans, led by code
coverage (atheris).

    python tests/fuzz/coverage_guided.py [--seconds N] [--target review|manifest|reference|evidence]

The targets take turns on as many processes as are asked for. Exit code 1 with the input's file if
one broke something; `--replay FILE --target T` runs it again. Needs the dependency group `fuzz`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

TARGETS = ("review", "manifest", "reference", "evidence")
SHARES = {"review": 0.35, "manifest": 0.35, "reference": 0.1, "evidence": 0.2}
# Inputs of these are JSON, and every other one is changed as such.
JSON = ("review", "evidence")
LARGEST_INPUT = 16_384
SLOW_SECONDS = 10
MOST_MEMORY = 2_048  # MiB
ENDED = re.compile(r"Done (\d+) runs in (\d+) second")
COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(options.target, options.seconds, options.worker, options.findings)
    if options.replay:
        import batten_targets  # noqa: PLC0415

        batten_targets.TARGETS[options.target](options.replay.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install --group fuzz", file=sys.stderr)
        return 2
    targets = [options.target] if options.target else list(TARGETS)
    shares = {target: SHARES[target] for target in targets}
    whole = sum(shares.values())
    with ThreadPoolExecutor(options.processes) as pool:
        runs = pool.map(
            lambda target: _run(
                target, int(options.seconds * shares[target] / whole), options.findings
            ),
            targets,
        )
        return max(runs)


def _run(target: str, seconds: int, findings: Path) -> int:
    """One target in a process of its own: libFuzzer ends the process that it runs in."""
    findings.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="batten-fuzz-") as folder:
        command = [sys.executable, __file__, "--target", target, "--seconds", str(max(1, seconds))]
        command += ["--worker", folder, "--findings", str(findings)]
        process = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    ended = ENDED.search(process.stderr)
    covered = COVERED.findall(process.stderr)
    if process.returncode or ended is None:
        print(f"{target}: broken, see {findings}\n{process.stderr[-4000:]}", flush=True)
        return 1
    points, _, inputs = covered[-1] if covered else ("0", "0", "0")
    runs, took = ended.groups()
    print(
        f"{target}: {int(runs):,} runs in {took} s, {points} points covered, "
        f"{inputs} inputs kept, 0 findings",
        flush=True,
    )
    if not any(findings.iterdir()):
        findings.rmdir()
    return 0


def _work(target: str, seconds: int, folder: Path, findings: Path) -> None:
    import atheris  # noqa: PLC0415 - an optional dependency, and slow to load

    with atheris.instrument_imports(include=["batten_webhooks", "yaml"]):
        import batten_targets  # noqa: PLC0415
    for number, seed in enumerate(batten_targets.seeds(target)):
        (folder / f"seed-{number}").write_bytes(seed)
    arguments = [
        sys.argv[0],
        str(folder),
        f"-max_total_time={seconds}",
        f"-max_len={LARGEST_INPUT}",
        f"-timeout={SLOW_SECONDS}",
        f"-rss_limit_mb={MOST_MEMORY}",
        f"-artifact_prefix={findings}/{target}-",
        "-print_final_stats=1",
    ]

    def mutate(data: bytes, size: int, number: int) -> bytes:
        changed = batten_targets.mutated(data, number) if target in JSON and number % 2 else None
        if changed is None or len(changed) > size:
            changed = atheris.Mutate(data, size)
        return bytes(changed)

    atheris.Setup(arguments, batten_targets.TARGETS[target], custom_mutator=mutate)
    atheris.Fuzz()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
