"""Who asks, proven as a registry wants it: nothing, a password, or a token for it.

https://distribution.github.io/distribution/spec/auth/token/ and, for identity tokens, its oauth.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from dataclasses import dataclass

import msgspec
from msgspec import Struct
from yarl import URL

from batten_webhooks.images.bounded import Bounded
from batten_webhooks.images.challenge import Challenge, read_challenges
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import ANYBODY, Credential
from batten_webhooks.images.transport import Answer, Transport
from batten_webhooks.messages import printable

MOST_TOKEN_BYTES = 2**20
MOST_REMEMBERED = 1_000
# "If the field is omitted, this defaults to 60 seconds" ("Token Response Fields"); of what a token
# lasts a part is left, so that none ends on its way.
TOKEN_SECONDS, TOKEN_PART = 60.0, 0.8


class _Token(Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """`limit` is how many bytes of the answer are read."""

    method: str
    url: URL
    accept: str = ""
    limit: int = 0
    scope: str = ""
    credential: Credential = ANYBODY


class Authorization:
    """What hosts ask for, and the tokens that are still good, by registry, scope and credential."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._meeting = Bounded[str, asyncio.Lock](MOST_REMEMBERED)
        self._met = Bounded[str, bool](MOST_REMEMBERED)
        self._challenges = Bounded[str, Challenge](MOST_REMEMBERED)
        self._tokens = Bounded[tuple[str, ...], tuple[str, float]](MOST_REMEMBERED)

    async def ask(self, request: Request) -> Answer:
        """The answer, 401 where nobody was let in. Raises RegistryError.

        Whoever asks a host first learns what it asks for; the others wait for that once.
        """
        host = request.url.authority
        if host not in self._met:
            async with self._meeting.setdefault(host, asyncio.Lock()):
                if host not in self._met:
                    try:
                        return await self._authorized(request)
                    finally:
                        self._met[host] = True
        return await self._authorized(request)

    async def _authorized(self, request: Request) -> Answer:
        """With what the registry asked for the last time, or asks for now. A token that is refused
        is fetched again once."""
        host = request.url.authority
        known = self._challenges.get(host)
        for fresh in (False, True):
            headers = await self._authorization(request, known, fresh=fresh)
            headers["Accept"] = request.accept
            answer = await self._transport.follow(
                request.method, request.url, headers, request.limit
            )
            if answer.status != 401:
                return answer
            asked = _wanted(answer, request.credential)
            if asked is None:
                break
            self._challenges[host] = known = asked
        return answer

    async def _authorization(
        self, request: Request, challenge: Challenge | None, *, fresh: bool
    ) -> dict[str, str]:
        if challenge is None:
            return {}
        credential = request.credential
        if challenge.scheme == "basic":
            if not credential.username:
                return {}
            return {"Authorization": _basic(credential)}
        return {"Authorization": f"Bearer {await self._token(request, challenge, fresh=fresh)}"}

    async def _token(self, request: Request, challenge: Challenge, *, fresh: bool) -> str:
        realm = challenge.parameters.get("realm", "")
        service = challenge.parameters.get("service", "")
        whom = request.credential.identity
        key = (request.url.authority, realm, service, request.scope, whom)
        known, ends = self._tokens.get(key, ("", 0.0))
        if known and not fresh and time.monotonic() < ends:
            return known
        answer = await self._fetch_token(request, realm, service)
        try:
            told = msgspec.json.decode(answer.body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RegistryError("invalid", "the registry's token server sent no token") from None
        token = told.token or told.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise RegistryError("invalid", "the registry's token server sent no token")
        lasts = TOKEN_SECONDS if told.expires_in is None else told.expires_in
        self._tokens[key] = token, time.monotonic() + TOKEN_PART * lasts
        return token

    async def _fetch_token(self, request: Request, realm: str, service: str) -> Answer:
        credential = request.credential
        url = _realm(request.url, realm)
        headers: dict[str, str] = {}
        fields = {"service": service, "scope": request.scope}
        form = None
        if credential.identity_token:
            form = fields | {
                "grant_type": "refresh_token",
                "refresh_token": credential.identity_token,
                "client_id": "batten",
            }
        else:
            url = url.update_query(fields)
            if credential.username:
                headers["Authorization"] = _basic(credential)
        method = "POST" if form else "GET"
        answer = await self._transport.exchange(method, url, headers, MOST_TOKEN_BYTES, form)
        if answer.status in {400, 401, 403}:
            whom = f"user {printable(credential.username)!r}" if credential.username else "anybody"
            message = f"the registry's token server lets {whom} not pull: check the pull secret"
            raise RegistryError("unauthorized", message)
        if answer.status != 200:
            message = f"the registry's token server answers {answer.status}"
            raise RegistryError("invalid", message)
        return answer


def _realm(registry: URL, realm: str) -> URL:
    """A token server with TLS, unless the registry has none itself."""
    try:
        url = URL(realm)
        secure = url.scheme == "https" or (url.scheme == registry.scheme == "http")
    except ValueError:
        secure = False
    if not secure or not url.host:
        told = printable(realm)[:200]
        raise RegistryError("refused", f"the registry's token server is at {told!r}: no https")
    return url


def _wanted(answer: Answer, credential: Credential) -> Challenge | None:
    """Of what is asked for, what we can give: a token before a password."""
    challenges = read_challenges(answer.headers.getall("WWW-Authenticate", []))
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme and (scheme == "bearer" or credential.username):
                return challenge
    return None


def _basic(credential: Credential) -> str:
    """RFC 7617; BasicAuth of aiohttp takes no user with a colon, and raises."""
    pair = f"{credential.username}:{credential.password}"
    return f"Basic {b64encode(pair.encode()).decode()}"
