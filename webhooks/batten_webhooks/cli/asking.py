"""Whether a command asks registries at all: most do not, and need no library for it."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batten_webhooks.cli import command_module
from batten_webhooks.cli.files import Subject
from batten_webhooks.engine import NO_FACTS
from batten_webhooks.image_facts import ImageFacts
from batten_webhooks.images.profiles import profile_of
from batten_webhooks.messages import printable
from batten_webhooks.reference import parse_reference
from batten_webhooks.rules.rule import Facts

if TYPE_CHECKING:
    from batten_webhooks.cli.registries import LookUp


@contextmanager
def asking(options: Namespace, *, wanted: bool) -> Iterator[LookUp | None]:
    """None where it is not wanted. Raises CannotRun."""
    if not wanted:
        yield None
        return
    with command_module("batten_webhooks.cli.registries").LookUp(options) as look_up:
        yield look_up


def facts(look_up: LookUp | None, found: Sequence[Subject]) -> Facts:
    """What the images of these workloads say. Of which nothing can be learnt is told, once."""
    if look_up is None:
        return NO_FACTS
    texts = [site.container.image or "" for each in found for site in each.workload.sites]
    images: dict[str, ImageFacts] = {}
    for text, answer in look_up.contents(filter(None, texts)).items():
        if isinstance(answer, Exception):
            if text not in look_up.told:
                look_up.told.add(text)
                print(f"batten: image {printable(text)}: {answer}", file=sys.stderr)
            continue
        profile = profile_of(parse_reference(text))
        images[text] = command_module("batten_webhooks.images.facts").facts_of(answer[1], profile)
    return Facts(images)
