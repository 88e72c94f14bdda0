"""Registries that are wrong, each in its own way and on its own port: no real one is so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INDEX = "application/vnd.oci.image.index.v1+json"
SLOW_SECONDS = 10.0
HUGE = 100 * 1000 * 1000
METADATA = "http://169.254.169.254/latest/meta-data"

Handler = BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


def status(code: int, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def _slow(handler: Handler) -> None:
    time.sleep(SLOW_SECONDS)
    status(503)(handler)


def _body(handler: Handler, declared: int, data: bytes) -> None:
    """Without a digest in its headers, so that the bytes themselves are asked for."""
    handler.send_response(200)
    handler.send_header("Content-Type", INDEX)
    handler.send_header("Content-Length", str(declared))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(data)


def _truncated(handler: Handler) -> None:
    _body(handler, 1000, b'{"manifests": [')
    handler.close_connection = True


def _huge(handler: Handler) -> None:
    _body(handler, HUGE, b" " * HUGE if handler.command == "GET" else b"")


# By name; what Batten says of each is in the tests.
WRONG: dict[str, Answer] = {
    "missing": status(404),
    "limited": status(429, Retry_After="60"),
    "broken": status(500),
    "truncated": _truncated,
    "digest": status(200, Content_Type=INDEX, Docker_Content_Digest="sha256:0"),
    "huge": _huge,
    "redirect": status(307, Location=METADATA),
    "slow": _slow,
}


@contextmanager
def wrong_registries() -> Iterator[dict[str, str]]:
    """The HOST:PORT of each; one more, `stopped`, is where nobody listens."""
    servers = {name: _serve(answer) for name, answer in WRONG.items()}
    gone = _serve(status(500))
    gone.server_close()
    everybody = servers | {"stopped": gone}
    try:
        yield {name: f"127.0.0.1:{server.server_port}" for name, server in everybody.items()}
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()


def _serve(answer: Answer) -> ThreadingHTTPServer:
    class Answering(Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802 - as the base class calls it
            try:
                answer(self)
            except OSError:
                self.close_connection = True  # whoever asked has given up

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
