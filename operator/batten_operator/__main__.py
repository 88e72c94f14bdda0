"""`python -m batten_operator`: exit code 0 after a signal, 2 for bad settings, 1 for the rest."""

from __future__ import annotations

import asyncio
import logging
import sys

import uvloop

from batten_operator.logs import configure
from batten_operator.serve import CannotAsk, CannotListen, serve
from batten_operator.settings import parse


def main() -> int:
    settings = parse(sys.argv[1:])
    configure(settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (CannotAsk, CannotListen) as error:
        logging.getLogger(__name__).critical("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
