"""`make up`: a control plane and the operator, enforcing the hardened preset, in the background."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_session import ClusterError, ToolError, saved, session
from batten_tools import say


def main() -> int:
    started = time.monotonic()
    try:
        earlier = saved()
        if earlier and earlier.running():
            say(f"is up already: source {earlier.env_file} (`make down` ends it)")
            return 0
        if earlier:
            earlier.stop()
        current = session()
        current.start()
    except (ClusterError, ToolError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; what was started is ended")
        return 130
    say(f"ready in {time.monotonic() - started:.1f} s")
    print(f"source {current.env_file.relative_to(Path.cwd())} && kubectl get namespaces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
