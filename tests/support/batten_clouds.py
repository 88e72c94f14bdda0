"""The endpoints of three clouds on this machine, under their own names.

Their libraries are real, and ECR's and STS's APIs as far as moto has them; small servers stand for
Google's and Microsoft's token endpoints and for ACR's exchange, and `names` stands for DNS.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from batten_registry import GAR_TOKEN
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
GAR = "europe-docker.pkg.dev"
ACR = "shop.azurecr.io"
GOOGLE, METADATA = "oauth2.googleapis.com", "metadata.google.internal"
ENTRA = "login.microsoftonline.com"
TENANT = "409520d4-8100-4d1d-ad47-72432ddcc120"

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    form: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Told:
    """`body` is sent as JSON unless it is bytes already."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Endpoint:
    port: int
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def endpoint(answer: Callable[[Asked], Told], tls: Path | None = None) -> Iterator[Endpoint]:
    """A server on 127.0.0.1, with the certificate of the folder `tls` where one is given."""
    found = Endpoint(0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            form = dict(parse_qsl(self.rfile.read(length).decode()))
            asked = Asked(self.command, self.path, form, dict(self.headers))
            found.asked.append(asked)
            told = answer(asked)
            body = told.body if isinstance(told.body, bytes) else json.dumps(told.body).encode()
            self.send_response(told.status)
            for name, value in {"Content-Type": "application/json", **told.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_POST = do_HEAD = do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing: what matters is in `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def names(monkeypatch: pytest.MonkeyPatch, ports: Mapping[str, int]) -> None:
    """From now on these names lead to ports of this machine, whatever port is asked for."""
    resolve = socket.getaddrinfo

    def local(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if host in ports:
            host, port = "127.0.0.1", ports[host]
        return resolve(host, port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", local)


def service_account(folder: Path) -> Path:
    """A key file as Google gives it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "key.json"
    value = {
        "type": "service_account",
        "project_id": "shop",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "batten@shop.iam.gserviceaccount.com",
        "token_uri": f"https://{GOOGLE}/token",
    }
    file.write_text(json.dumps(value))
    return file


def jwt(lifetime: float = 3600, **claims: Any) -> str:
    """Signed by nobody: whoever reads it here is not its judge."""
    parts = {"alg": "none"}, {"exp": time.time() + lifetime, **claims}
    texts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts)
    return ".".join([*(text.rstrip("=") for text in texts), "signature"])


def entra(_: Asked) -> Told:
    """Microsoft's token endpoint."""
    return Told({"access_token": "entra", "token_type": "Bearer", "expires_in": 3600})


def google(_: Asked) -> Told:
    """Google's token endpoint, and the one of a node's metadata service."""
    body = {"access_token": GAR_TOKEN, "token_type": "Bearer", "expires_in": 3600}
    return Told(body, headers={"Metadata-Flavor": "Google"})


def metadata(asked: Asked) -> Told:
    """What GKE's metadata server says to a Pod with Workload Identity."""
    if "/token?" in asked.path:
        return google(asked)
    flavor = {"Metadata-Flavor": "Google"}
    if asked.path.endswith("/project-id"):
        return Told(b"shop", headers={**flavor, "Content-Type": "text/plain"})
    return Told({"email": "batten@shop.iam.gserviceaccount.com", "scopes": []}, headers=flavor)
