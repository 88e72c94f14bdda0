"""The live TLS context: new connections get the newest certificate, existing ones stay."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

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
            with _file(pair.certificate) as certificate, _file(pair.key) as key:
                _context().load_cert_chain(certificate, key)  # a bad pair breaks only this one
                self.context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            kept = "the one before is kept" if self.pair else "there is none to serve yet"
            logger.error("certificate not loaded: %s; %s", error, kept)
            return False
        self.pair = pair
        logger.info("certificate loaded", extra=fields(expires=expiry(pair).isoformat()))
        return True


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """The path of a file in memory, as OpenSSL reads keys from files alone: no disk that is full
    keeps us from serving, and none holds the key."""
    with os.fdopen(os.memfd_create("batten"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
