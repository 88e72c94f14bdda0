"""Every reference of the corpus's manifests is pinned, and unpinned again to the byte."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from batten_corpus import CORPUS, needs_corpus

from batten_webhooks.cli.files import Source, Unrelated, Unusable, parse, read, sources, subjects
from batten_webhooks.cli.judge import Result
from batten_webhooks.cli.pinning import pins
from batten_webhooks.cli.registries import LookUp
from batten_webhooks.manifests import Manifest
from batten_webhooks.reference import InvalidReference, parse_reference
from batten_webhooks.workload import TEMPLATE_PATHS

DIGEST = f"sha256:{'5e' * 32}"


class Registries:
    """Stands for every registry there is: the corpus names real ones."""

    def digests(self, texts: Iterable[str]) -> dict[str, str | InvalidReference]:
        return {text: self._digest(text) for text in texts}

    def _digest(self, text: str) -> str | InvalidReference:
        try:
            parse_reference(text)
        except InvalidReference as error:
            return error
        return DIGEST


def references(source: Source, manifest: Manifest) -> list[str]:
    return [
        text
        for each in subjects(source, manifest, TEMPLATE_PATHS)
        for _, _, text in each.workload.images
        if text
    ]


def test_pins_come_and_go_and_leave_no_trace() -> None:
    needs_corpus()
    look_up = cast(LookUp, Registries())
    pin, unpin = pins("pin", look_up), pins("unpin", None)
    pinned = 0
    for source in sources([str(CORPUS / "manifests")]):
        try:
            manifest = parse(source, data := read(source))
            before = references(source, manifest)
        except (Unrelated, Unusable):
            continue
        result = Result()
        after = pin(source, manifest, TEMPLATE_PATHS, result)
        told = {problem.line for problem in result.problems}  # templates of other tools
        for was, now in zip(before, references(source, after), strict=True):
            if was == now:
                assert "@" in was or told
                continue
            assert now == f"{was}@{DIGEST}"
            assert parse_reference(now).digest == DIGEST
            pinned += 1
        back = unpin(source, after, TEMPLATE_PATHS, Result())
        if before and not any("@" in text or ":" not in text.rpartition("/")[2] for text in before):
            assert back.edit({}) == data
    assert pinned > 200
