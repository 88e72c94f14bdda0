"""What `kubectl apply` prints, word for word, for every folder of `messages/`.

`BATTEN_UPDATE_GOLDENS=1 make test` writes the files anew; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from batten_e2e import Namespace

CASES = sorted(path for path in (Path(__file__).parent / "messages").iterdir())


@pytest.mark.cluster
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_apply(case: Path, namespace: Namespace) -> None:
    manifest = str(case / "object.yaml")
    dry_run = namespace.kubectl("apply", "--dry-run=server", "-f", manifest)
    applied = namespace.kubectl("apply", "-f", manifest)

    transcript = f"$ kubectl apply -f object.yaml\n{applied.transcript(case)}"
    golden = case / "expected.txt"
    if os.environ.get("BATTEN_UPDATE_GOLDENS"):
        golden.write_text(transcript)
    assert transcript == golden.read_text()
    assert dry_run.transcript(case).replace(" (server dry run)", "") == applied.transcript(case)
