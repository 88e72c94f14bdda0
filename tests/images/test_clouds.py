"""Registries asked as the operator's cloud identity: how it is got, for which hosts, how often."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from batten_clouds import (
    ACR,
    ECR,
    ENTRA,
    GAR,
    GOOGLE,
    METADATA,
    TENANT,
    Asked,
    Endpoint,
    Told,
    endpoint,
    entra,
    google,
    jwt,
    metadata,
    names,
    service_account,
)
from batten_registry import (
    ECR_PASSWORD,
    ECR_USER,
    GAR_TOKEN,
    GAR_USER,
    PASSWORD,
    USER,
    Registry,
    certificates,
    registry,
)
from moto.server import ThreadedMotoServer

from batten_webhooks.images import cloud
from batten_webhooks.images.cache import Images
from batten_webhooks.images.cloud import CloudCredentials, MissingExtra
from batten_webhooks.images.cloud_sources import SOURCES, CloudError, Granted, Source, kind_of
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Credential, Keyring
from batten_webhooks.images.registry import Registries
from batten_webhooks.images.transport import RegistrySettings, Transport
from batten_webhooks.reference import InvalidReference, Reference, parse_reference

NOBODY = Keyring()
CLOUDS = (ECR, GAR, ACR)
LOOKALIKES = (
    f"{ECR}.evil.example",
    f"{ECR}:443",
    ECR.upper(),
    ECR.replace("123456789012", "123456789013"),
    ECR.replace("eu-west-1", "eu-west-2"),
    f"evil-{GAR}",
    f"{GAR}.evil.example",
    "asia-docker.pkg.dev",
    f"evil{ACR}",
    f"shop.azurecr.io.{ACR}",
)


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No identity of whoever runs the tests."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for every name."""
    folder = tmp_path_factory.mktemp("tls")
    hosts = {each.lower().removesuffix(":443") for each in LOOKALIKES}
    certificates(folder, *CLOUDS, GOOGLE, ENTRA, *sorted(hosts - set(CLOUDS)))
    return folder


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """It lets in what moto and our Google give."""
    folder = tmp_path_factory.mktemp("guarded")
    with registry(folder, "htpasswd", tls=True, names=CLOUDS) as found:
        yield found


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("public"), tls=True, names=CLOUDS) as found:
        yield found


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """ECR and STS, and a role of a ServiceAccount as EKS tells a Pod of it (IRSA)."""
    later = lambda *_, **__: datetime.now(UTC) + timedelta(hours=12)  # noqa: E731
    monkeypatch.setattr("moto.ecr.responses.datetime", later)  # all its tokens ended in 2015
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    token = tmp_path / "token"
    token.write_text("token of a ServiceAccount")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/batten")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    yield
    server.stop()


@pytest.fixture
def workload_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tls: Path) -> None:
    """As Azure's webhook tells a Pod of it."""
    (tmp_path / "federated").write_text("token of a ServiceAccount")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls / "ca.crt"))
    monkeypatch.setenv("AZURE_CLIENT_ID", "batten")
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "federated"))


@pytest.fixture
def key_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tls: Path) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls / "ca.crt"))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(tmp_path)))


class Played:
    """`told` are the hosts with what went wrong there, "" for nothing."""

    def __init__(self, ca: Path | None, *hosts: str, **sources: Source) -> None:
        self.told: list[tuple[str, str]] = []
        self.settings = RegistrySettings(
            listed=frozenset((*CLOUDS, *LOOKALIKES, *(each.lower() for each in LOOKALIKES))),
            certificates={"": ca} if ca else {},
        )
        self._hosts, self._sources = hosts, dict(SOURCES)
        for kind in SOURCES:
            self._sources[kind] = sources.get(kind, SOURCES[kind])

    def clouds(self, **named: Any) -> CloudCredentials:
        tell = lambda host, why: self.told.append((host, why))  # noqa: E731
        return CloudCredentials(self._hosts, tell, sources=self._sources, **named)

    def play(self, asked: Callable[[Registries], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with Registries(self.settings, self.clouds()) as registries:
                return await asked(registries)

        return asyncio.run(asyncio.wait_for(main(), 30))

    def resolve(self, name: str, keyring: Keyring = NOBODY) -> str:
        digest: str = self.play(lambda each: each.resolve(parse_reference(name), keyring))
        return digest

    def failure(self, name: str, keyring: Keyring = NOBODY) -> RegistryError:
        with pytest.raises(RegistryError) as caught:
            self.resolve(name, keyring)
        return caught.value


def gives(*credentials: Credential | Exception, lasts: float = 3600) -> Any:
    """A source that gives one after the other; how often it was asked is `asked`."""

    async def source(_: str, __: Transport) -> Granted:
        source.asked += 1  # type: ignore[attr-defined]
        found = credentials[min(source.asked, len(credentials)) - 1]  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        if isinstance(found, Exception):
            raise found
        return Granted(found, time.time() + lasts)

    source.asked = 0  # type: ignore[attr-defined]
    return source


GOOD, BAD = Credential(ECR_USER, ECR_PASSWORD), Credential(ECR_USER, "wrong")


# --- each cloud, to the image ---------------------------------------------------------------------


def port(found: Registry) -> int:
    return int(found.host.rpartition(":")[2])


@pytest.mark.usefixtures("moto")
def test_an_image_of_ecr(guarded: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, {ECR: port(guarded)})
    pushed = guarded.push("team/app", "1.4")
    played = Played(guarded.ca, ECR)
    assert played.resolve(f"{ECR}/team/app:1.4") == pushed.digest
    assert played.told == [(ECR, "")]


@pytest.mark.usefixtures("key_file")
def test_an_image_of_artifact_registry_by_a_key(
    guarded: Registry, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = guarded.push("shop/team/app", "1.4")
    with endpoint(google, tls) as tokens:
        names(monkeypatch, {GAR: port(guarded), GOOGLE: tokens.port})
        assert Played(guarded.ca, GAR).resolve(f"{GAR}/shop/team/app:1.4") == pushed.digest
    assert [each.form["grant_type"].rpartition(":")[2] for each in tokens.asked] == ["jwt-bearer"]


def test_an_image_of_artifact_registry_by_the_metadata_service(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = guarded.push("shop/team/app", "1.4")
    with endpoint(metadata) as served:
        places = {GAR: port(guarded), METADATA: served.port, "169.254.169.254": served.port}
        names(monkeypatch, places)
        assert Played(guarded.ca, GAR).resolve(f"{GAR}/shop/team/app:1.4") == pushed.digest
    assert served.asked[-1].path.endswith("auth%2Fcloud-platform.read-only")


@contextmanager
def azure(found: Registry, tls: Path, refresh: Told | None = None) -> Iterator[Endpoint]:
    """ACR: a real registry with tokens, and before it what ACR has besides, as its documentation
    has it (AAD-OAuth.md)."""
    token = jwt(grant_type="refresh_token")

    def answer(asked: Asked) -> Told:
        if asked.path == "/oauth2/exchange":
            exchange = {"grant_type": "access_token", "service": ACR, "access_token": "entra"}
            return (refresh or Told({"refresh_token": token})) if asked.form == exchange else NO
        if asked.path == "/oauth2/token":
            if asked.form.get("refresh_token") != token:
                return NO
            repository = asked.form["scope"].split(":")[1]
            assert found.tokens
            return Told({"access_token": found.tokens.sign(repository)})
        return _passed(found, asked)

    with endpoint(answer, tls) as front:
        yield front


NO = Told({"errors": [{"code": "UNAUTHORIZED"}]}, 401)


def _passed(found: Registry, asked: Asked) -> Told:
    """What the registry answers, but that the token server is ACR's own."""
    sent = _of(asked.headers, "Accept", "Authorization")
    request = urllib.request.Request(found.base + asked.path, headers=sent, method=asked.method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            headers = _of(answer.headers, "Content-Type", "Docker-Content-Digest")
            return Told(answer.read(), answer.status, headers)
    except HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        realm = f'realm="https://{ACR}/oauth2/token"'
        challenge = re.sub('realm="[^"]*"', realm, challenge)
        return Told(error.read(), error.code, {"WWW-Authenticate": challenge})


def _of(headers: Mapping[str, str] | Message, *names: str) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("token"), "token") as found:
        yield found


@pytest.mark.usefixtures("workload_identity")
def test_an_image_of_acr(tokens: Registry, tls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = tokens.push("team/app", "1.4")
    with endpoint(entra, tls) as authority, azure(tokens, tls) as front:
        names(monkeypatch, {ACR: front.port, ENTRA: authority.port})
        assert Played(tls / "ca.crt", ACR).resolve(f"{ACR}/team/app:1.4") == pushed.digest
    (asked,) = [each.form for each in authority.asked if each.method == "POST"]
    assert asked["client_assertion"] == "token of a ServiceAccount"
    assert asked["scope"] == "https://containerregistry.azure.net/.default"


# --- in which order -------------------------------------------------------------------------------


def secret(host: str, user: str = USER, password: str = PASSWORD) -> Keyring:
    return Keyring([(host, Credential(user, password))])


def test_a_pull_secret_comes_first(guarded: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, {ECR: port(guarded)})
    pushed = guarded.push("team/app", "1.4")
    source = gives(GOOD)
    played = Played(guarded.ca, ECR, ecr=source)
    assert played.resolve(f"{ECR}/team/app:1.4", secret(ECR)) == pushed.digest
    assert source.asked == 0
    assert played.resolve(f"{ECR}/team/app:1.4", secret(ECR, password="no")) == pushed.digest  # noqa: S106
    assert source.asked == 1


@pytest.mark.usefixtures("workload_identity")
def test_a_pull_secret_that_a_token_server_refuses_comes_first(
    tokens: Registry, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = tokens.push("team/app", "1.4")
    with endpoint(entra, tls) as authority, azure(tokens, tls) as front:
        names(monkeypatch, {ACR: front.port, ENTRA: authority.port})
        keyring = Keyring([(ACR, Credential(identity_token="old"))])  # noqa: S106
        played = Played(tls / "ca.crt", ACR)
        assert played.resolve(f"{ACR}/team/app:1.4", keyring) == pushed.digest


@pytest.mark.parametrize("source", [gives(BAD), gives(OSError("no network"))], ids=("bad", "none"))
def test_anybody_comes_last(
    public: Registry, monkeypatch: pytest.MonkeyPatch, source: Source
) -> None:
    names(monkeypatch, {ECR: port(public)})
    pushed = public.push("team/app", "1.4")
    assert Played(public.ca, ECR, ecr=source).resolve(f"{ECR}/team/app:1.4") == pushed.digest


def test_who_is_not_let_in_is_told_of_the_cloud_identity(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, {ECR: port(guarded)})
    error = Played(guarded.ca, ECR, ecr=gives(BAD)).failure(f"{ECR}/team/app:1.4")
    assert error.reason == "unauthorized"
    assert str(error) == (
        "the registry answers 401: check the pull secret and what the operator's cloud identity"
        " may read"
    )
    missing = Played(guarded.ca, ECR, ecr=gives(GOOD)).failure(f"{ECR}/team/none:1.4")
    assert (missing.reason, str(missing)) == (
        "not-found",
        "there is no such tag, or not for these credentials",
    )


def test_who_has_no_cloud_credential_is_told_so(
    guarded: Registry, public: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = f"; the operator's cloud identity gave no credential for {ECR}: its log says why"
    for found, told in (
        (guarded, "the registry answers 401: check the pull secret"),
        (public, "the registry shows nobody such an image"),
    ):
        with monkeypatch.context() as patch:
            names(patch, {ECR: port(found)})
            played = Played(found.ca, ECR, ecr=gives(OSError("no network")))
            error = played.failure(f"{ECR}/team/none:1")
        assert (error.reason, str(error)) == ("unavailable", told + lacking)
        assert played.told == [(ECR, "OSError: no network")]


def test_a_digest_stays_known_while_the_cloud_gives_no_credential(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, {ECR: port(guarded)})
    pushed = guarded.push("team/app", "1.4")
    clock = [0.0]
    source = gives(GOOD, OSError("no network"), lasts=3600)
    played = Played(guarded.ca, ECR, ecr=source)

    async def main() -> list[str]:
        reference, found = parse_reference(f"{ECR}/team/app:1.4"), []
        async with Registries(played.settings, played.clouds(now=lambda: clock[0])) as registries:
            images = Images(registries, now=lambda: clock[0], fresh=3600)
            for at in (0.0, 4000.0, 4001.0):
                clock[0] = at
                found.append(await images.digest(reference, NOBODY, 10))
                await asyncio.gather(*images._resolving._running.values(), return_exceptions=True)
            await images.close()
        return found

    assert asyncio.run(asyncio.wait_for(main(), 30)) == [pushed.digest] * 3
    assert [why for _, why in played.told] == ["", "OSError: no network"]


# --- which host -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        (ECR, "ecr"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "ecr"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "ecr"),
        (GAR, "gar"),
        ("europe-west1-docker.pkg.dev", "gar"),
        ("docker.europe-west1.rep.pkg.dev", "gar"),
        ("gcr.io", "gar"),
        ("eu.gcr.io", "gar"),
        (ACR, "acr"),
        ("shop-a1b2c3d4.azurecr.io", "acr"),
    ],
)
def test_a_cloud_is_known_by_its_host(host: str, kind: str) -> None:
    assert kind_of(host) == kind


@pytest.mark.parametrize(
    "host",
    [
        f"{ECR}.evil.example",
        f"{GAR}.evil.example",
        f"shop.azurecr.io.{ACR}",
        f"{ECR}:443",
        f"{ECR}.",
        ECR.upper(),
        f"{ECR}/team",
        f"https://{ECR}",
        f"{ECR}\n",
        f"user@{ACR}",
        "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
        "١٢٣٤٥٦٧٨٩٠١٢.dkr.ecr.eu-west-1.amazonaws.com",
        "public.ecr.aws",
        "pkg.dev",
        "evilgcr.io",
        "a.b.gcr.io",
        "azurecr.io",
        "a.b.azurecr.io",
        "docker.io",
        "*.azurecr.io",
        "",
    ],
)
def test_anything_else_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="is no registry of a cloud, which are ACCOUNT") as caught:
        kind_of(host)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("host", LOOKALIKES)
def test_no_credential_goes_to_a_host_that_looks_alike(
    host: str, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for a password, which it does not get."""
    sources = {kind: gives(GOOD) for kind in ("acr", "ecr", "gar")}
    with endpoint(lambda _: Told(status=401, headers={"WWW-Authenticate": "Basic"}), tls) as evil:
        names(monkeypatch, {host.lower().removesuffix(":443"): evil.port})
        played = Played(tls / "ca.crt", *CLOUDS, **sources)
        assert played.failure(f"{host}/team/app:1").reason == "unauthorized"
    assert evil.asked
    assert not any("Authorization" in each.headers for each in evil.asked)
    assert [each.asked for each in sources.values()] == [0, 0, 0]


def test_a_dot_at_the_end_names_no_registry() -> None:
    with pytest.raises(InvalidReference):
        parse_reference(f"{ECR}./team/app:1")
    assert f"{ECR}." not in CloudCredentials([ECR])


def test_a_redirect_or_a_mirror_gets_no_credential(
    tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil_host = LOOKALIKES[0]

    def redirect(asked: Asked) -> Told:
        if "Authorization" not in asked.headers:
            return Told(status=401, headers={"WWW-Authenticate": "Basic"})
        return Told(status=307, headers={"Location": f"https://{evil_host}/v2/"})

    with (
        endpoint(lambda _: Told(status=401, headers={"WWW-Authenticate": "Basic"}), tls) as evil,
        endpoint(redirect, tls) as real,
    ):
        names(monkeypatch, {ECR: real.port, evil_host: evil.port})
        played = Played(tls / "ca.crt", ECR, ecr=gives(GOOD))
        played.settings = RegistrySettings(
            played.settings.plain_http,
            played.settings.listed,
            played.settings.certificates,
            {ECR: (evil_host,)},
        )
        played.failure(f"{ECR}/team/app:1")
    assert any("Authorization" in each.headers for each in real.asked)
    assert len(evil.asked) > 1
    assert not any("Authorization" in each.headers for each in evil.asked)


# --- how often ------------------------------------------------------------------------------------


def ask(clouds: CloudCredentials) -> Awaitable[Credential]:
    return clouds.credential(ECR, Transport(RegistrySettings()))


def scenario(played: Played, clock: list[float], play: Callable[[Any], Awaitable[None]]) -> None:
    async def main() -> None:
        clouds = played.clouds(now=lambda: clock[0])
        await play(clouds)
        await clouds.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_many_ask_once() -> None:
    source = gives(GOOD)
    played = Played(None, ECR, ecr=source)

    async def play(clouds: CloudCredentials) -> None:
        assert await asyncio.gather(*(ask(clouds) for _ in range(100))) == [GOOD] * 100
        assert await ask(clouds) == GOOD

    scenario(played, [0.0], play)
    assert source.asked == 1


def test_it_is_renewed_beside_the_answers() -> None:
    clock, source = [0.0], gives(BAD, OSError("no network"), GOOD)
    played = Played(None, ECR, ecr=source)

    async def play(clouds: CloudCredentials) -> None:
        assert await ask(clouds) == BAD
        for at, asked in ((1700.0, 1), (1900.0, 2), (1910.0, 2), (1931.0, 3)):
            clock[0] = at
            assert await ask(clouds) == BAD  # none waits
            await asyncio.sleep(0.05)
            assert source.asked == asked
        assert await ask(clouds) == GOOD

    scenario(played, clock, play)
    assert [why for _, why in played.told] == ["", "OSError: no network", ""]


def test_none_is_given_that_ends_on_its_way() -> None:
    clock, source = [0.0], gives(BAD, GOOD)

    async def play(clouds: CloudCredentials) -> None:
        assert await ask(clouds) == BAD
        clock[0] = 3300.0
        assert await ask(clouds) == GOOD

    scenario(Played(None, ECR, ecr=source), clock, play)


def test_what_failed_is_not_tried_again_at_once() -> None:
    clock, source = [0.0], gives(OSError("no network"), GOOD)
    played = Played(None, ECR, ecr=source)

    async def play(clouds: CloudCredentials) -> None:
        for at in (0.0, 1.0, 29.0):
            clock[0] = at
            for _ in range(20):
                with pytest.raises(CloudError, match=f"gave no credential for {ECR}"):
                    await ask(clouds)
        assert source.asked == 1
        clock[0] = 31.0
        assert await ask(clouds) == GOOD

    scenario(played, clock, play)
    assert [why for _, why in played.told] == ["OSError: no network", ""]


# --- what goes wrong ------------------------------------------------------------------------------


def why(host: str, tls: Path) -> str:
    """Why a cloud's real source gives nothing, as the operator's log tells it."""
    played = Played(tls / "ca.crt", host)

    async def main() -> None:
        clouds, transport = played.clouds(), Transport(played.settings)
        try:
            with pytest.raises(CloudError, match=f"gave no credential for {host}"):
                await clouds.credential(host, transport)
        finally:
            await clouds.close()
            await transport.close()

    asyncio.run(asyncio.wait_for(main(), 30))
    ((_, told),) = played.told
    assert told.isprintable()
    assert "hidden" not in told
    return told


SECRET = {"id_token": "hidden", "refresh": "hidden"}


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Told(b"["), "TypeError: "),
        (Told(SECRET), "RefreshError: No access token in response."),
        (
            Told({"access_token": GAR_TOKEN, "expires_in": -1}),
            "CloudError: the credential has expired",
        ),
        (Told({"access_token": "a\r\nHost: b", "expires_in": 60}), "what was sent is no token"),
        (Told({"access_token": 5, "expires_in": 60}), "what was sent is no token"),
        (Told({"error": "invalid_grant", **SECRET}, 400), "RefreshError: invalid_grant"),
    ],
    ids=("broken", "none", "expired", "forged", "number", "refused"),
)
def test_google_answers_wrongly(
    answer: Told, told: str, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint(lambda _: answer, tls) as tokens:
        names(monkeypatch, {GOOGLE: tokens.port})
        assert told in why(GAR, tls)


@pytest.mark.usefixtures("workload_identity")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Told(b"["), f"CloudError: {ACR}/oauth2/exchange sent no refresh token"),
        (Told({"access_token": "hidden"}), "sent no refresh token"),
        (Told({"refresh_token": 5}), "sent no refresh token"),
        (Told({"refresh_token": "a\nb"}), "what was sent is no token"),
        (Told({"refresh_token": jwt(-1)}), "the credential has expired already"),
        (Told(SECRET, 401), f"{ACR}/oauth2/exchange answers 401"),
        (Told(status=307, headers={"Location": f"https://{GAR}/"}), "exchange answers 307"),
        (Told(b" " * (2**20 + 1)), "sent more than"),
    ],
    ids=("broken", "none", "number", "forged", "expired", "refused", "redirect", "long"),
)
def test_acr_answers_wrongly(
    answer: Told, told: str, tokens: Registry, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint(entra, tls) as authority, azure(tokens, tls, answer) as front:
        names(monkeypatch, {ACR: front.port, ENTRA: authority.port})
        assert told in why(ACR, tls)


@pytest.mark.usefixtures("workload_identity")
@pytest.mark.parametrize(
    "answer",
    [Told(b"["), Told(SECRET), Told({"error": "invalid_client", **SECRET}, 401)],
    ids=("broken", "none", "refused"),
)
def test_entra_answers_wrongly(answer: Told, tls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(lambda _: answer, tls) as authority:
        names(monkeypatch, {ENTRA: authority.port})
        assert "Error: " in why(ACR, tls)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Told(b"<html>"), "KeyError: authorizationData"),
        (Told({}), "KeyError: authorizationData"),
        (Told({"authorizationData": []}), "ValueError: not enough values"),
        (Told({"__type": "AccessDeniedException", "message": "no", **SECRET}, 400), "AccessDenied"),
    ],
    ids=("broken", "none", "empty", "refused"),
)
def test_ecr_answers_wrongly(
    answer: Told, told: str, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto never does: a small server stands for ECR, with a key in place of a role."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    with endpoint(lambda _: answer) as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{served.port}")
        assert told in why(ECR, tls)


def test_a_token_of_ecr_that_has_ended(tls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As all of moto's are."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
    assert why(ECR, tls) == "CloudError: the credential has expired already"
    server.stop()


def test_a_pod_without_any_identity(tls: Path) -> None:
    assert why(ECR, tls) == "NoCredentialsError: Unable to locate credentials"


@pytest.mark.usefixtures("key_file")
def test_a_token_endpoint_that_hangs_costs_a_while_and_one_thread(
    public: Registry, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(cloud, "FAILED_SECONDS", 0.0)
    pushed, hang = public.push("shop/app", "1"), threading.Event()

    def hangs(_: Asked) -> Told:
        hang.wait(20)
        return Told(status=500)

    with endpoint(hangs, tls) as tokens:
        names(monkeypatch, {GAR: port(public), GOOGLE: tokens.port})
        played = Played(public.ca, GAR)

        async def asked(registries: Registries) -> list[str]:
            reference = parse_reference(f"{GAR}/shop/app:1")
            return [await registries.resolve(reference, NOBODY) for _ in range(3)]

        try:
            assert played.play(asked) == [pushed.digest] * 3
        finally:
            hang.set()
        assert len(tokens.asked) == 1
    assert (GAR, "no answer within 0.2 s") in played.told


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, module, extra in (
        (ECR, "botocore.session", "ecr"),
        (GAR, "google.auth.transport.requests", "gar"),
        (ACR, "azure.identity", "acr"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtra) as caught:
            CloudCredentials([host])
        assert str(caught.value) == f"{host}: needs pip install 'batten[{extra}]'"


def test_a_credential_does_not_show_itself() -> None:
    shown = repr(Granted(Credential(GAR_USER, "hidden", "hidden"), 0.0))
    assert "hidden" not in shown
    assert Reference(ECR, "team/app").name == f"{ECR}/team/app"
