"""`make kind` and `make kind-down`: a real cluster with Batten on it, tried, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_cluster import ClusterError
from batten_install import ROOT
from batten_kind import ASKED_VARIABLE, KUBECONFIG, cannot, kind_cluster, remove
from batten_session import OPERATOR_VARIABLE
from batten_tools import ToolError, say

# The tour, then everything that is tried end to end; what starts a control plane of its own is not.
TESTS = ("tests/kind", "tests/e2e")


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands = {"up": up, "down": down, "cannot": tell}
    command = commands.get("".join(sys.argv[1:2]))
    if command is None:
        say(f"say one of {', '.join(commands)}")
        return 2
    try:
        return command()
    except (ClusterError, ToolError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make kind` goes on, `make kind-down` ends what is left")
        return 130


def up() -> int:
    started = time.monotonic()
    kind_cluster()
    say(f"up in {time.monotonic() - started:.0f} s; the tests follow")
    environment = {
        **os.environ,
        ASKED_VARIABLE: "1",
        OPERATOR_VARIABLE: "cluster",
        "KUBECONFIG": str(KUBECONFIG),
    }
    command = [sys.executable, "-m", "pytest", *TESTS, *sys.argv[2:]]
    failed = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    print(f"export KUBECONFIG={KUBECONFIG}")
    return failed


def down() -> int:
    say("ended" if remove() else "no Docker runs, and so no cluster")
    return 0


def tell() -> int:
    """Why this machine can have no such cluster, for scripts."""
    print(cannot())
    return 0


if __name__ == "__main__":
    sys.exit(main())
