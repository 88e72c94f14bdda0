"""Public keys that are trusted, and whether one of them signed something."""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_pem_public_key

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

MOST_KEYS = 10
LEAST_RSA_BITS = 2048
# cosign 2 hashes with SHA-256 whatever the curve, cosign 3 with the hash of the curve's own size.
CURVES: dict[str, tuple[hashes.HashAlgorithm, ...]] = {
    "secp256r1": (hashes.SHA256(),),
    "secp384r1": (hashes.SHA256(), hashes.SHA384()),
    "secp521r1": (hashes.SHA256(), hashes.SHA512()),
}


@lru_cache(maxsize=64)
def parse_keys(keys: tuple[str, ...]) -> tuple[PublicKey, ...]:
    """Of PEM, each one by itself. Raises ValueError, which says what is wrong with which key and
    holds nothing of it."""
    if len(keys) > MOST_KEYS:
        raise ValueError(f"there are {len(keys)} keys: at most {MOST_KEYS} can be trusted")
    found: list[PublicKey] = []
    for number, text in enumerate(keys, 1):
        try:
            found.append(_parse(text))
        except ValueError as error:
            raise ValueError(f"key {number} {error}") from None
    return tuple(found)


def _parse(text: str) -> PublicKey:
    if "PRIVATE KEY-----" in text:
        raise ValueError("is a private key: give its public half, and make another pair")
    if "BEGIN CERTIFICATE-----" in text:
        raise ValueError("is a certificate: give the public key in it")
    if text.count("-----BEGIN ") > 1:
        raise ValueError("is more than one: give each by itself")
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is no public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < LEAST_RSA_BITS:
            raise ValueError(f"is RSA of {key.key_size} bits: less than {LEAST_RSA_BITS} is weak")
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES:
        return key
    raise ValueError("is neither ECDSA on P-256, P-384 or P-521, nor Ed25519 or RSA")


class Signed:
    """Bytes that are to have been signed; each hash of them is computed once. `unsure` says that a
    signature may be right, and that only PyNaCl, which is missing, could tell."""

    def __init__(self, data: bytes) -> None:
        self.unsure = False
        self._data = data
        self._hashed = cache(self._hash)

    def by(self, key: PublicKey, signature: bytes) -> bool:
        if isinstance(key, ed25519.Ed25519PublicKey):
            return self._by_ed25519(key, signature)
        algorithms = CURVES[key.curve.name] if isinstance(key, ec.EllipticCurvePublicKey) else ()
        return any(self._holds(key, signature, each) for each in algorithms or (hashes.SHA256(),))

    def _holds(
        self,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        signature: bytes,
        algorithm: hashes.HashAlgorithm,
    ) -> bool:
        hashed, prehashed = self._hashed(algorithm.name), utils.Prehashed(algorithm)
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, hashed, padding.PKCS1v15(), prehashed)
            else:
                key.verify(signature, hashed, ec.ECDSA(prehashed))
        except InvalidSignature:
            return False
        return True

    def _hash(self, name: str) -> bytes:
        return hashlib.new(name, self._data).digest()

    def _by_ed25519(self, key: ed25519.Ed25519PublicKey, signature: bytes) -> bool:
        """RFC 8032: Ed25519 itself, as cosign 2 signs, or Ed25519ph, as cosign 3 does."""
        try:
            key.verify(signature, self._data)
        except InvalidSignature:
            return len(signature) == 64 and self._by_ed25519ph(key, signature)
        return True

    def _by_ed25519ph(self, key: ed25519.Ed25519PublicKey, signature: bytes) -> bool:
        """By libsodium, as `cryptography` has no such thing."""
        try:
            from nacl import bindings, exceptions  # noqa: PLC0415 - an extra
        except ImportError:
            self.unsure = True
            return False
        state = bindings.crypto_sign_ed25519ph_state()
        bindings.crypto_sign_ed25519ph_update(state, self._data)
        try:
            bindings.crypto_sign_ed25519ph_final_verify(state, signature, key.public_bytes_raw())
        except exceptions.BadSignatureError:
            return False
        return True
