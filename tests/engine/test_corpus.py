"""The properties of generated Pods, for every Pod template of the corpus of real manifests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_properties import assert_mutated_is_validated, assert_what_is_set_stays

from batten_webhooks.workload import Malformed, read_objects

CORPUS = Path(
    os.environ.get("BATTEN_CORPUS") or Path(__file__).parents[2].with_name("shared") / "corpus"
)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="no corpus: set BATTEN_CORPUS to a folder of manifests"
)


def _documents(folder: str) -> Iterator[Any]:
    """What can be read; templates that are no YAML, and broken files, are the files' own tests."""
    for path in sorted((CORPUS / folder).rglob("*.y*ml")):
        try:
            documents = list(yaml.load_all(path.read_text(), Loader=LOADER))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        yield from (document for document in documents if isinstance(document, dict))


@pytest.mark.parametrize("folder", ["manifests", "pss"])
def test_every_template(folder: str) -> None:
    templates = malformed = 0
    for document in _documents(folder):
        try:
            templates += len(list(read_objects(document)))
        except Malformed:
            malformed += 1
            continue
        assert_mutated_is_validated(document)
        assert_what_is_set_stays(document)
    assert templates > 50
    # Real manifests have mistakes that the API server refuses, such as `value: true`; few do.
    assert malformed <= 2
