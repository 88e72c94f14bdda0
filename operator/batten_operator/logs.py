"""Logs as one JSON object a line, whoever writes them: ours, kopf's, aiohttp's, warnings."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp.http_exceptions import HttpProcessingError


def configure(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_wanted)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # kopf tells at info of every event that a handler saw, and at debug what the object holds.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, root.level))
    # Its inner parts tell of each attempt of each watch; our thread tells why watching ended.
    if root.level > logging.DEBUG:
        for name in ("kopf._cogs", "kopf._core"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    # What goes wrong in them we tell ourselves; botocore tells at debug what it is answered, which
    # are credentials, and azure at info of every request.
    for name in ("azure", "botocore", "google", "msal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def fields(**values: Any) -> dict[str, Any]:
    """`extra=` of a log call: `logger.info("denied", extra=fields(uid=uid))`."""
    return {"fields": values}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def _wanted(record: logging.LogRecord) -> bool:
    """Not what anybody who reaches the port could fill the log with, nor what is always so."""
    if record.name == "aiohttp.server" and record.exc_info:
        return not isinstance(record.exc_info[1], HttpProcessingError)
    return not record.getMessage().startswith("OS signals are ignored")
