"""References with digests, as they are written into objects. Pure: no I/O.

`name:tag@sha256:…`: the digest is what runs, the tag says to people what that was.
"""

from __future__ import annotations

from batten_webhooks.reference import parse_reference


def pinned(text: str, digest: str) -> str:
    """The reference as it was written, with this digest. Raises InvalidReference."""
    parse_reference(text)
    return f"{text.partition('@')[0]}@{digest}"


def unpinned(text: str) -> str:
    """The reference without its digest; one that has no tag stays, for nothing else would name the
    image. Raises InvalidReference."""
    reference = parse_reference(text)
    return text.partition("@")[0] if reference.digest and reference.tag else text
