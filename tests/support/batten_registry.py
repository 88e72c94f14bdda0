"""A real registry, distribution's own, in its three ways of letting somebody in, and images."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError
from urllib.parse import parse_qs, urlsplit

from batten_cluster import free_ports
from batten_tools import referring_registry_binary, registry_binary
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from batten_operator.certificates import fresh

USER, PASSWORD = "robot", "secret"
# What moto gives for ECR, and what our own token server gives for Google.
ECR_USER, ECR_PASSWORD = "AWS", "123456789012-auth-token"
GAR_USER, GAR_TOKEN = "oauth2accesstoken", "ya29.tests"
# Of their passwords, by `htpasswd -B`.
HTPASSWD = (
    f"{USER}:$2a$04$XqTU91rHExIWQppy4JSxNO3B/WNJQY84KK4sBZyEAchzFFfUtXJZ.\n"
    f"{ECR_USER}:$2a$04$1dk66jMRlockxF96XiJSlO1IR9MzyM8mKgBAxEVvTW5nJGzPvtjii\n"
    f"{GAR_USER}:$2a$04$J1cKBz1VDGxVqsyMF4xWu.TyZvRUGXhFlYh7V3QYeGVAewcjYMc.e\n"
)
IDENTITY_TOKEN = "identity"  # noqa: S105
SERVICE = "registry of the tests"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"

ENVIRONMENT = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
Access = Literal["anybody", "htpasswd", "token"]
Json = dict[str, Any]


@dataclass(frozen=True)
class Pushed:
    """`digest` is of the index; `platforms` are the digests of its manifests."""

    digest: str
    platforms: dict[str, str]


@dataclass
class Registry:
    """`host` is HOST:PORT; `ca` is the file of its certificate authority, where it has TLS."""

    host: str
    ca: Path | None
    access: Access
    process: subprocess.Popen[bytes]
    log: Path
    tokens: TokenServer | None = None

    @property
    def base(self) -> str:
        return f"{'https' if self.ca else 'http'}://{self.host}"

    def asked(self, method: str, what: str = "/manifests/") -> int:
        """How many requests were let in, counted by the registry's own log."""
        pattern = rf'"{method} /v2/[^" ]*{re.escape(what)}[^" ]* HTTP/[\d.]+" 200 '
        return len(re.findall(pattern, self.log.read_text()))

    def revive(self) -> None:
        """Start it once more, after `process` was killed."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.process.args, stdout=output, stderr=subprocess.STDOUT, env=ENVIRONMENT
            )
        _await(self)

    def push(
        self,
        repository: str,
        tag: str,
        *,
        platforms: tuple[str, ...] = ("amd64",),
        layer: bytes = b"",
        **config: Any,
    ) -> Pushed:
        """An index of images with one layer each, an archive where they shall run; `config` is that
        of their configuration."""
        children: list[Json] = []
        for architecture in platforms:
            content = layer or f"layer of {architecture}".encode()
            value = {
                "os": "linux",
                "architecture": architecture,
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [_digest(content)]},
            }
            described = self.blob(repository, json.dumps(value).encode())
            manifest = {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": OCI_CONFIG, **described},
                "layers": [{"mediaType": OCI_LAYER, **self.blob(repository, content)}],
            }
            data = json.dumps(manifest).encode()
            digest = self.put(repository, _digest(data), data, OCI_MANIFEST)
            platform = {"os": "linux", "architecture": architecture}
            children.append(
                {
                    "mediaType": OCI_MANIFEST,
                    "digest": digest,
                    "size": len(data),
                    "platform": platform,
                }
            )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
        digest = self.put(repository, tag, json.dumps(index).encode(), OCI_INDEX)
        return Pushed(
            digest, {each["platform"]["architecture"]: each["digest"] for each in children}
        )

    def put(self, repository: str, reference: str, data: bytes, media_type: str) -> str:
        """A manifest under a tag or its digest."""
        self._request("PUT", f"/v2/{repository}/manifests/{reference}", data, media_type)
        return _digest(data)

    def manifest(self, repository: str, reference: str) -> bytes:
        data: bytes = self._request("GET", f"/v2/{repository}/manifests/{reference}", b"").read()
        return data

    def attach(
        self,
        repository: str,
        blobs: Iterable[tuple[str, bytes]],
        *,
        subject: str = "",
        tag: str = "",
        **said: Any,
    ) -> str:
        """A manifest whose layers are `blobs`, each with its media type; the digest of it."""
        empty = self.blob(repository, b"{}")
        manifest: Json = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", **empty},
            "layers": [{"mediaType": kind, **self.blob(repository, data)} for kind, data in blobs],
            **said,
        }
        if subject:
            manifest["subject"] = {"mediaType": OCI_INDEX, "digest": subject, "size": 1}
        data = json.dumps(manifest).encode()
        return self.put(repository, tag or _digest(data), data, OCI_MANIFEST)

    def blob(self, repository: str, data: bytes) -> Json:
        answer = self._request("POST", f"/v2/{repository}/blobs/uploads/", b"")
        where = answer.headers["Location"]
        where += ("&" if "?" in where else "?") + f"digest={_digest(data)}"
        self._request("PUT", where, data, "application/octet-stream")
        return {"digest": _digest(data), "size": len(data)}

    def _request(self, method: str, path: str, data: bytes, media_type: str = "") -> Any:
        url = path if path.startswith("http") else self.base + path
        request = urllib.request.Request(url, data, method=method)  # noqa: S310
        request.add_header("Accept", f"{OCI_INDEX}, {OCI_MANIFEST}")
        if media_type:
            request.add_header("Content-Type", media_type)
        if self.access == "htpasswd":
            request.add_header("Authorization", _basic(USER, PASSWORD))
        if self.tokens:
            repository = re.split("/(?:manifests|blobs)/", urlsplit(url).path)[0][len("/v2/") :]
            request.add_header("Authorization", f"Bearer {self.tokens.sign(repository)}")
        context = ssl.create_default_context(cafile=self.ca) if self.ca else None
        return urllib.request.urlopen(request, timeout=10, context=context)  # noqa: S310


@contextmanager
def registry(
    folder: Path, access: Access = "anybody", *, tls: bool = False, names: tuple[str, ...] = ()
) -> Iterator[Registry]:
    """A registry process on 127.0.0.1, gone afterwards; its certificate is for `names`, too."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    ca = certificates(folder, *names) if tls else None
    config: Json = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": False}, "level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if tls:
        config["http"]["tls"] = {
            "certificate": str(folder / "tls.crt"),
            "key": str(folder / "tls.key"),
        }
    host = f"127.0.0.1:{port}"
    with _letting_in(folder, access, config) as tokens:
        (folder / "config.yml").write_text(json.dumps(config))
        command = [registry_binary(), "serve", str(folder / "config.yml")]
        with _process(folder, command) as (process, log):
            found = Registry(host, ca, access, process, log, tokens)
            _await(found)
            try:
                yield found
            finally:
                found.process.kill()
                found.process.wait()


@contextmanager
def referring_registry(folder: Path) -> Iterator[Registry]:
    """One with the referrers API, which lets in anybody and keeps everything in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    host = f"127.0.0.1:{port}"
    with _process(folder, [referring_registry_binary(), host]) as (process, log):
        found = Registry(host, None, "anybody", process, log)
        _await(found)
        yield found


@contextmanager
def _process(folder: Path, command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def _await(found: Registry) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and found.process.poll() is None:
        try:
            found._request("GET", "/v2/", b"")
        except URLError as error:
            if getattr(error, "code", 0) in {401, 404}:
                return
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"the registry does not serve:\n{found.log.read_text()}")


@contextmanager
def _letting_in(folder: Path, access: Access, config: Json) -> Iterator[TokenServer | None]:
    if access == "htpasswd":
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    if access != "token":
        yield None
        return
    tokens = TokenServer(folder)
    config["auth"] = {
        "token": {
            "realm": f"http://{tokens.host}/token",
            "service": SERVICE,
            "issuer": "tests",
            "rootcertbundle": str(folder / "issuer.crt"),
        }
    }
    try:
        yield tokens
    finally:
        tokens.close()


class TokenServer:
    """Signs tokens for those who may pull, as the token authentication specification has it."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.lifetime = 300
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .sign(self._key, hashes.SHA256())
        )
        (folder / "issuer.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._der = certificate.public_bytes(serialization.Encoding.DER)
        (port,) = free_ports(1)
        self.host = f"127.0.0.1:{port}"
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def sign(self, repository: str) -> str:
        now = int(time.time())
        access = [{"type": "repository", "name": repository, "actions": ["pull", "push"]}]
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(self._der).decode()]}
        claims = {
            "iss": "tests",
            "sub": USER,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 10,
            "exp": now + self.lifetime,
            "jti": str(len(self.asked)),
            "access": access,
        }
        text = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        signature = self._key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        return (text + b"." + _base64(signature)).decode()

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                self._answer(query, self.headers.get("Authorization") == _basic(USER, PASSWORD))

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                query = parse_qs(self.rfile.read(length).decode())
                self._answer(query, query.get("refresh_token") == [IDENTITY_TOKEN])

            def _answer(self, query: dict[str, list[str]], known: bool) -> None:
                (scope,) = query["scope"]
                server.asked.append(scope)
                repository = scope.removeprefix("repository:").removesuffix(":pull")
                if not known and not repository.startswith("public/"):
                    self.send_error(401)
                    return
                assert query["service"] == [SERVICE]
                body = json.dumps({"token": server.sign(repository), "expires_in": 300}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: what matters is in `asked`."""

        return Handler


def certificates(folder: Path, *names: str) -> Path:
    """The file of the authority of tls.crt and tls.key, which are in the folder, too."""
    store = fresh(("localhost", "127.0.0.1", *names), timedelta(hours=1), datetime.now(UTC))
    (folder / "tls.crt").write_bytes(store.serving.certificate)
    (folder / "tls.key").write_bytes(store.serving.key)
    ca = folder / "ca.crt"
    ca.write_bytes(store.bundle)
    return ca


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def docker_config(host: str, **entry: str) -> bytes:
    """A configuration of docker with one entry, by default that of USER."""
    fields = entry or {"username": USER, "password": PASSWORD}
    return json.dumps({"auths": {host: fields}}).encode()
