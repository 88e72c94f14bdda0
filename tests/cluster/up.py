"""`make up`: a control plane and the operator, enforcing the hardened preset, in the background."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_session import ClusterError, ToolError, one_at_a_time, saved, session
from batten_tools import say


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with one_at_a_time():
            return _up()
    except (ClusterError, ToolError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; what was started is ended")
        return 130


def _up() -> int:
    started = time.monotonic()
    earlier = saved()
    if earlier and earlier.running():
        say(f"is up already: source {earlier.env_file} (`make down` ends it)")
        return 0
    if earlier:
        ended = ", ".join(earlier.plane.ended()) or "an unfinished start"
        say(f"clearing away what is left of the last session (found ended: {ended})")
        earlier.stop()
    current = session()
    current.start()
    say(f"ready in {time.monotonic() - started:.1f} s")
    print(f"source {current.env_file} && kubectl get namespaces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
