"""The webhooks' certificates: issued by a CA of our own, rotated without a moment of distrust.

Every certificate comes with a CA that signs it alone and whose key is thrown away at once, so that
nothing which could sign another certificate is ever stored. A rotation has two steps: a new
certificate is *staged*, its CA joining the bundle that API servers trust; once they have had time
to see that bundle, it is *promoted* to be the one that is served, while the CA before it is still
trusted. Whoever serves an older or a newer certificate than its neighbour is trusted all the same.

Everything here is pure: times are given, nothing is read or written.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

MAX_NAMES = 32
RENEWED_AFTER = 2 / 3
# Clocks of API servers may be behind ours: until theirs got there they would refuse every review.
_BACKDATED = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Store:
    """What the Secret holds: what is served, what is trusted, and what will be served next."""

    serving: Pair
    bundle: bytes
    staged: Pair | None = None


def fresh(names: Iterable[str], lifetime: timedelta, now: datetime) -> Store:
    """A first certificate, trusted and served at once."""
    pair, authority = _issue(names, lifetime, now)
    return Store(serving=pair, bundle=authority)


def step(
    store: Store, names: Iterable[str], lifetime: timedelta, now: datetime, *, trusted: bool
) -> Store | None:
    """What the store becomes next; None while it is good as it is.

    `trusted` tells that API servers have had time to see `store.bundle`.
    """
    wanted = tuple(names)
    serving = x509.load_pem_x509_certificate(store.serving.certificate)
    if now >= serving.not_valid_after_utc and store.staged is None:
        return fresh(wanted, lifetime, now)
    if store.staged is not None:
        expired = now >= serving.not_valid_after_utc
        return replace(store, serving=store.staged, staged=None) if trusted or expired else None
    present = _names(serving)
    if now < renewal(store) and set(_canonical(wanted)) <= set(present):
        return None
    # Replicas of two versions may want different names for a while: each keeps the other's.
    union = tuple(dict.fromkeys((*wanted, *present)))
    pair, authority = _issue(union if len(union) <= MAX_NAMES else wanted, lifetime, now)
    return replace(store, bundle=_issuer(store, serving) + authority, staged=pair)


def renewal(store: Store) -> datetime:
    """When the served certificate is due for rotation."""
    certificate = x509.load_pem_x509_certificate(store.serving.certificate)
    begin = certificate.not_valid_before_utc + _BACKDATED
    return begin + (certificate.not_valid_after_utc - begin) * RENEWED_AFTER


def expiry(pair: Pair) -> datetime:
    return x509.load_pem_x509_certificate(pair.certificate).not_valid_after_utc


# --- the Secret's data --------------------------------------------------------------------------


def to_data(store: Store) -> dict[str, str]:
    """`data` of a Secret of type kubernetes.io/tls."""
    data = {
        "tls.crt": store.serving.certificate,
        "tls.key": store.serving.key,
        "ca.crt": store.bundle,
    }
    if store.staged is not None:
        data |= {"next.crt": store.staged.certificate, "next.key": store.staged.key}
    return {name: b64encode(value).decode() for name, value in data.items()}


def from_data(data: Mapping[str, str]) -> Store:
    """Raises ValueError, saying which key of the Secret is unusable and why."""
    values = {name: _decoded(name, data[name]) for name in data}
    missing = [name for name in ("tls.crt", "tls.key", "ca.crt") if not values.get(name)]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    store = Store(
        serving=checked(Pair(values["tls.crt"], values["tls.key"]), "tls"),
        bundle=values["ca.crt"],
    )
    if values.get("next.crt"):
        staged = Pair(values["next.crt"], values.get("next.key", b""))
        store = replace(store, staged=checked(staged, "next"))
    for pair in (store.serving, store.staged):
        if pair is not None:
            _issuer(store, x509.load_pem_x509_certificate(pair.certificate))
    return store


def checked(pair: Pair, name: str) -> Pair:
    """The pair, if its key is the certificate's. Raises ValueError."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
    except ValueError:
        raise ValueError(f"{name}.crt is no PEM certificate") from None
    try:
        key = serialization.load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError):
        raise ValueError(f"{name}.key is no unencrypted PEM key") from None
    if key.public_key() != certificate.public_key():
        raise ValueError(f"{name}.key is not the key of {name}.crt")
    return pair


def _decoded(name: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise ValueError(f"{name} is no base64") from None


# --- issuing ------------------------------------------------------------------------------------


def _issue(names: Iterable[str], lifetime: timedelta, now: datetime) -> tuple[Pair, bytes]:
    """A certificate for these host names and addresses, and the CA that signed it."""
    wanted = _canonical(names)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A name of its own for each CA: verifiers find an issuer by its name before its key.
    issuer = _common_name(f"batten-ca-{serial:040x}"[:64])
    authority = (
        _builder(issuer, issuer, authority_key.public_key(), lifetime, now)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(_subject_key(authority_key), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_common_name("batten-webhook"), issuer, key.public_key(), lifetime, now)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general_name, wanted)), critical=False)
        .add_extension(_subject_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Pair(_pem(certificate), key_pem), _pem(authority)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
    now: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject_key(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _issuer(store: Store, certificate: x509.Certificate) -> bytes:
    """The CA of the bundle that signed this certificate. Raises ValueError where none did."""
    try:
        authorities = x509.load_pem_x509_certificates(store.bundle)
    except ValueError:
        raise ValueError("ca.crt holds no PEM certificates") from None
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return _pem(authority)
    raise ValueError("ca.crt holds no CA that signed the certificate")


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    names = extension.value
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _canonical(names: Iterable[str]) -> tuple[str, ...]:
    """Each once, addresses in their canonical spelling."""
    return tuple(dict.fromkeys(str(_address(name) or name.lower()) for name in names))


def _general_name(name: str) -> x509.GeneralName:
    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
