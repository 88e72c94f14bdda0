"""`make down`: end exactly what `make up` started."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_session import ClusterError, ToolError, one_at_a_time, saved
from batten_tools import say


def main() -> int:
    try:
        with one_at_a_time():
            current = saved()
            if current is None:
                say("nothing is up")
                return 0
            current.stop()
    except (ClusterError, ToolError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make down` again ends the rest")
        return 130
    say("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
