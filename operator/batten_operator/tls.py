"""The live TLS context: new connections get the newest certificate, existing ones stay."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

from batten_operator.certificates import Pair, expiry
from batten_operator.logs import fields

logger = logging.getLogger(__name__)


class ServingCertificate:
    """One SSLContext for the whole life of the process; `load` changes what it presents."""

    def __init__(self) -> None:
        self.context = _context()
        self.pair: Pair | None = None

    def load(self, pair: Pair) -> bool:
        """Serve this pair from the next connection on; a bad one is logged and the old one kept."""
        if pair == self.pair:
            return True
        try:
            with TemporaryDirectory(prefix="batten-") as folder:
                certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
                certificate.write_bytes(pair.certificate)
                key.touch(mode=0o600)
                key.write_bytes(pair.key)
                _context().load_cert_chain(certificate, key)  # a bad pair breaks only this one
                self.context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            kept = "the one before is kept" if self.pair else "there is none to serve yet"
            logger.error("certificate not loaded: %s; %s", error, kept)
            return False
        self.pair = pair
        logger.info("certificate loaded", extra=fields(expires=expiry(pair).isoformat()))
        return True


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
