"""Signatures without a key, by Sigstore's own library and offline: `batten[keyless]`.

A certificate of Fulcio's says who signed, and an entry in Rekor's log when. The trusted root, a
file that holds the keys of both, is that of https://github.com/sigstore/root-signing or one's own.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from batten_webhooks.evidence.attestations.model import Rejected, Trust
from batten_webhooks.messages import printable

if TYPE_CHECKING:
    from sigstore.verify import Verifier


def payload_of(bundle: bytes, trust: Trust, root: Path | None) -> bytes:
    """What a bundle's envelope holds, if `trust`'s identity signed it, as its issuer knows it.

    The first call takes seconds. Raises Rejected.
    """
    if not (trust.identity and trust.issuer):
        raise Rejected("forged", "is signed by an identity, and none with its issuer is trusted")
    if root is None:
        raise Rejected("unsupported", "is signed by an identity, and no trusted root is configured")
    try:
        from sigstore.models import Bundle  # noqa: PLC0415 - an extra, which takes long to import
        from sigstore.verify.policy import Identity  # noqa: PLC0415
    except ImportError:
        told = "is signed by an identity: sigstore (batten[keyless]) is missing"
        raise Rejected("unsupported", told) from None
    verifier = _verifier(root)
    try:
        policy = Identity(identity=trust.identity, issuer=trust.issuer)
        _, payload = verifier.verify_dsse(Bundle.from_json(bundle), policy)
    except Exception as error:  # what is in the bundle may fail in any of the library's libraries
        raise Rejected("forged", f"is not signed as it should be: {_told(error)}") from None
    return payload


def _verifier(root: Path) -> Verifier:
    try:
        return _loaded(root, root.stat().st_mtime_ns)
    except Exception as error:
        told = f"cannot be checked: {printable(str(root))} is no trusted root: {_told(error)}"
        raise Rejected("unsupported", told) from None


@lru_cache(maxsize=4)
def _loaded(root: Path, _changed: int) -> Verifier:
    from sigstore.models import TrustedRoot  # noqa: PLC0415
    from sigstore.verify import Verifier  # noqa: PLC0415

    return Verifier(trusted_root=TrustedRoot.from_file(str(root)))


def _told(error: Exception) -> str:
    return printable(str(error) or type(error).__name__)[:200]
