"""Answer a million broken reviews and say what it took; exit code 1 if an answer is wrong.

    python tests/fuzz/million.py [--reviews N] [--seed S] [--processes P]

Each review is a function of the seed and its number: `--seed S --only N` answers one again. They
are made from the objects of the corpus of real manifests where that stands beside the checkout.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_mutation import Case, bases, case
from batten_reviews import HARDENED, assert_accepted

from batten_webhooks.review import BadReview, respond, under

CHUNK = 5_000
EVERY = 50  # one answer of so many is checked in full, its patch applied by jsonpatch
MOST_SECONDS = 2.0  # of processor time; an API server waits 5 s
MOST_FAILURES = 10


@dataclass(slots=True)
class Tally:
    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_number: int = 0
    resident: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.counts += other.counts
        if other.slowest > self.slowest:
            self.slowest, self.slowest_number = other.slowest, other.slowest_number
        self.resident = max(self.resident, other.resident)
        self.failures += other.failures


def answer(made: Case, *, full: bool) -> tuple[str, float]:
    """What became of it, and the seconds of processor time; raises for a wrong answer."""
    started = time.thread_time()
    try:
        found = respond(made.webhook, made.body, under(HARDENED))
    except BadReview:
        return "errors", time.thread_time() - started
    seconds = time.thread_time() - started
    assert not (made.refuse and found.allowed), "allowed, although it must be refused"
    assert not (found.mutated and made.webhook == "validate"), "changed by validate"
    if full and made.request is not None:
        assert_accepted(made.webhook, made.request, found)
    if found.mutated:
        return "patched", seconds
    return "allowed" if found.allowed else "denied", seconds


def chunk(seed: int, texts: list[str], numbers: range) -> Tally:
    tally = Tally()
    for number in numbers:
        made = case(seed, number, texts)
        tally.counts["to refuse"] += made.refuse
        try:
            outcome, seconds = answer(made, full=number % EVERY == 0)
            assert seconds < MOST_SECONDS, f"took {seconds:.1f} s of processor time"
        except Exception as error:
            tally.failures.append(f"review {number} of seed {seed}: {error!r}")
            continue
        tally.counts[outcome] += 1
        if seconds > tally.slowest:
            tally.slowest, tally.slowest_number = seconds, number
    tally.resident = _resident()
    return tally


def _resident() -> int:
    """MiB that this process holds now (proc(5): statm counts pages)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reviews", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", type=int, help="answer this one, with its traceback")
    options = parser.parse_args()
    texts = bases()
    if options.only is not None:
        print(answer(case(options.seed, options.only, texts), full=True))
        return 0
    starts = range(0, options.reviews, CHUNK)
    chunks = [range(start, min(start + CHUNK, options.reviews)) for start in starts]
    total, first, began = Tally(), 0, time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        for tally in pool.map(partial(chunk, options.seed, texts), chunks):
            total.add(tally)
            first = first or tally.resident
            done = sum(total.counts.values()) - total.counts["to refuse"]
            if sys.stderr.isatty():
                print(f"\r{done:,} reviews", end="", file=sys.stderr, flush=True)
            if len(total.failures) >= MOST_FAILURES:
                pool.shutdown(cancel_futures=True)
                break
    for failure in total.failures[:MOST_FAILURES]:
        print(failure)
    print(_summary(total, len(texts), first, time.monotonic() - began))
    return 1 if total.failures else 0


def _summary(total: Tally, objects: int, first: int, seconds: float) -> str:
    counts = total.counts
    outcomes = ("patched", "allowed", "denied", "errors")
    told = ", ".join(f"{counts[name]:,} {name}" for name in outcomes)
    return (
        f"{sum(counts[name] for name in outcomes):,} reviews made from {objects} objects "
        f"in {seconds:.0f} s: {told}; {counts['to refuse']:,} had to be refused and were; "
        f"slowest {total.slowest * 1000:.0f} ms (review {total.slowest_number}); "
        f"resident {first} MiB after the first {CHUNK:,}, {total.resident} MiB at most; "
        f"{len(total.failures)} failures"
    )


if __name__ == "__main__":
    sys.exit(main())
