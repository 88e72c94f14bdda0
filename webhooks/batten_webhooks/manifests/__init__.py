"""Manifest files, read as kubectl reads them and edited by the line.

`Manifest.parse` reads YAML or JSON with the position of every field; `Manifest.edit` applies JSON
Patch operations so that comments, quotes, anchors, order and every other byte stay. Both raise
`ManifestError` and nothing else, for any input.
"""

from .manifest import Document, Manifest
from .text import ManifestError, Position

__all__ = ["Document", "Manifest", "ManifestError", "Position"]
