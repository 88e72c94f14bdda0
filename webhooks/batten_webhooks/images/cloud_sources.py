"""How each cloud turns an identity of a workload into a credential of its registry.

The clouds' own libraries find the identity (IRSA and EKS Pod Identity, GKE Workload Identity, Azure
Workload Identity, else that of the node) and are imported only here, when they are used.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from base64 import b64decode, urlsafe_b64decode
from binascii import Error as NoBase64
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from typing import Literal, TypeVar, cast

import msgspec
from msgspec import Struct
from yarl import URL

from batten_webhooks.images.keyring import Credential
from batten_webhooks.images.transport import Transport
from batten_webhooks.messages import printable

T = TypeVar("T")
Kind = Literal["acr", "ecr", "gar"]
# Of one request of a library's, of which a credential may take several.
CONNECT_SECONDS, READ_SECONDS = 2.0, 5.0
# Of a token that does not say how long it lasts.
TOKEN_SECONDS = 300.0
MOST_BYTES = 2**20
ACR_SCOPE = "https://containerregistry.azure.net/.default"
GAR_SCOPE = "https://www.googleapis.com/auth/cloud-platform.read-only"
GAR_USER = "oauth2accesstoken"
HOSTS: Mapping[Kind, re.Pattern[str]] = {
    "acr": re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.azurecr\.io"),
    "ecr": re.compile(r"[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?"),
    "gar": re.compile(r"([a-z0-9-]+\.)+pkg\.dev|([a-z0-9-]+\.)?gcr\.io"),
}


class CloudError(Exception):
    """A cloud gave no credential."""


@dataclass(frozen=True, slots=True)
class Granted:
    """`until` is in seconds since 1970."""

    credential: Credential
    until: float


Source = Callable[[str, Transport], Awaitable[Granted]]


def kind_of(host: str) -> Kind:
    """Whose registry it is. Raises ValueError."""
    for kind, pattern in HOSTS.items():
        if pattern.fullmatch(host):
            return kind
    raise ValueError(
        f"--cloud-registries {printable(host)}: is no registry of a cloud, which are"
        " ACCOUNT.dkr.ecr.REGION.amazonaws.com, LOCATION-docker.pkg.dev, gcr.io and NAME.azurecr.io"
    )


async def ecr(host: str, _: Transport) -> Granted:
    """https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html"""
    return await _in_thread(partial(_ecr, host))


def _ecr(host: str) -> Granted:
    from botocore.config import Config  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    region = host.split(".")[3]
    session = Session()
    session.set_config_variable("region", region)
    # Also for STS, which is asked on the way.
    session.set_default_client_config(
        Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 2},
        )
    )
    with closing(session.create_client("ecr")) as client:
        (data,) = client.get_authorization_token()["authorizationData"]
    user, _, password = b64decode(data["authorizationToken"]).decode().partition(":")
    return Granted(Credential(user, password), data["expiresAt"].timestamp())


async def gar(_: str, __: Transport) -> Granted:
    """https://cloud.google.com/artifact-registry/docs/docker/authentication#token"""
    return await _in_thread(_gar)


def _gar() -> Granted:
    import google.auth  # noqa: PLC0415
    from google.auth.transport.requests import Request  # noqa: PLC0415

    request = cast(Request, partial(Request(), timeout=READ_SECONDS))
    credentials, _ = google.auth.default(scopes=[GAR_SCOPE], request=request)
    credentials.refresh(request)
    ends = credentials.expiry
    until = ends.replace(tzinfo=UTC).timestamp() if ends else time.time() + TOKEN_SECONDS
    return Granted(Credential(GAR_USER, _token(credentials.token)), until)


class _Exchanged(Struct):
    refresh_token: str


class _Claims(Struct):
    exp: float


async def acr(host: str, transport: Transport) -> Granted:
    """https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md"""
    form = {
        "grant_type": "access_token",
        "service": host,
        "access_token": await _in_thread(_entra_token),
    }
    url = URL.build(scheme="https", authority=host, path="/oauth2/exchange")
    answer = await transport.exchange("POST", url, {}, MOST_BYTES, form)
    if answer.status != 200:
        raise CloudError(f"{host}/oauth2/exchange answers {answer.status}")
    try:
        token = _token(msgspec.json.decode(answer.body, type=_Exchanged).refresh_token)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CloudError(f"{host}/oauth2/exchange sent no refresh token") from None
    return Granted(Credential(identity_token=token), _expiry(token))


def _entra_token() -> str:
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415

    with DefaultAzureCredential(
        exclude_broker_credential=True,
        exclude_cli_credential=True,
        exclude_developer_cli_credential=True,
        exclude_powershell_credential=True,
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        connection_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retry_total=1,
    ) as credential:
        return credential.get_token(ACR_SCOPE).token


def _expiry(token: str) -> float:
    """Of a JWT, as far as it says so: whether it is good is the registry's to judge."""
    try:
        claims = token.split(".")[1]
        decoded = urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
        return msgspec.json.decode(decoded, type=_Claims).exp
    except (IndexError, NoBase64, msgspec.DecodeError, UnicodeDecodeError):
        return time.time() + TOKEN_SECONDS


def _token(text: object) -> str:
    if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable():
        raise CloudError("what was sent is no token")
    return text


async def _in_thread(work: Callable[[], T]) -> T:
    """As asyncio.to_thread, but a process that ends does not wait for it."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="cloud credential", daemon=True).start()
    return await asyncio.wrap_future(future)


SOURCES: Mapping[Kind, Source] = {"acr": acr, "ecr": ecr, "gar": gar}
