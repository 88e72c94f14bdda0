"""Batten beside Gatekeeper, Kyverno, the API server's own admission policies and a null webhook."""

import sys
from pathlib import Path

# The control plane is the tests'.
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
