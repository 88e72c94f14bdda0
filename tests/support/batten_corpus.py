"""Real manifests, read in place: a folder `shared/corpus` beside the checkout, or BATTEN_CORPUS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORPUS = Path(os.environ.get("BATTEN_CORPUS") or ROOT.parent / "shared" / "corpus")


def needs_corpus() -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus is not here: set BATTEN_CORPUS to its folder")
