"""The webhooks' HTTP server: paths that take AdmissionReviews, and three about ourselves.

`/mutate`, `/validate` and `/namespaces` are answered by the engine, `/resources` by kopf's
handlers of our own kinds; all take admission.k8s.io/v1. What cannot be answered is an
HTTP error, so that the webhook's failurePolicy decides: never `allowed` by accident. See
https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.

aiohttp's low-level server is used, without the router and middlewares that each review would pay.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import lru_cache, partial
from secrets import SystemRandom
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from batten_operator import own_reviews
from batten_operator.cluster import ApiError
from batten_operator.facts import ImageFacts
from batten_operator.logs import fields
from batten_operator.metrics import CONTENT_TYPE, Metrics
from batten_operator.policies import Policies
from batten_operator.settings import Address
from batten_webhooks.guard import judge_namespace
from batten_webhooks.inquiry import FactsNeeded, Inquiry, Source
from batten_webhooks.resources.model import GROUP
from batten_webhooks.review import API_VERSION, Answer, BadReview, NamespaceUnknown, respond
from batten_webhooks.rules.rule import Facts

if TYPE_CHECKING:
    from kopf import WebhookClientConfig, WebhookFn

logger = logging.getLogger(__name__)

MAX_BODY = 8 * 1024 * 1024
# What all requests together may hold in memory until they are answered, which waits for registries;
# more than that is answered with 503. Small ones are not counted: connections bound them.
MAX_BODIES = 64 * 1024 * 1024
SMALL_BODY = 64 * 1024
MAX_CONNECTIONS = 1024
MAX_MESSAGE = 500
DEFAULT_DEADLINE = 10.0
MAX_DEADLINE = 30.0
# What look-ups may take of a review's time, all together: at most so long, and so much of its
# deadline. A Namespace's labels, what images say, and once more what was forgotten meanwhile.
FACTS_SECONDS, FACTS_SHARE = 3.0, 0.6
MOST_LOOK_UPS = 4
HANDSHAKE_SECONDS = 10.0
# Longer than an API server keeps a connection that it does not use, or not yet (90 s): we never
# close one that it is about to use. After a while each is closed with an answer, so that load moves
# to new replicas.
IDLE_SECONDS = 120.0
CONNECTION_SECONDS = (300.0, 600.0)
STOP_SECONDS = 5.0

PATHS = "/mutate, /validate, /namespaces, /resources, /healthz, /readyz, /metrics"
_JSON = "application/json"
_TIMEOUT = re.compile(r"(?:^|&)timeout=(\d{1,6}(?:\.\d{1,9})?)(ms|s|m)(?:&|$)")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0}
_REASONS = {
    400: "bad_review",
    404: "unknown_path",
    405: "method",
    408: "deadline",
    413: "too_large",
    415: "media_type",
    500: "internal",
    503: "overloaded",
}
# Strangers' noise, which the metric counts; what is internal has been logged with its cause.
_QUIET = frozenset(("unknown_path", "method", "media_type", "internal"))
Judge = Literal["mutate", "validate", "namespaces"]
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """An HTTP error, with a text that is fit for anybody to read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message[:MAX_MESSAGE])
        self.status = status


class AdmissionServer:
    """Also kopf's `settings.admission.server`, which it calls as such: see `__call__`.

    `waiting` holds the reasons why no requests should come: they are what /readyz tells. `answered`
    is called with each answer and must not wait. Without `images` nothing is known of images.
    """

    def __init__(
        self,
        policies: Policies,
        metrics: Metrics,
        waiting: set[str],
        answered: Callable[[Answer], None] = lambda _: None,
        images: ImageFacts | None = None,
    ) -> None:
        self._images = images
        self._answered = answered
        self._policies = policies
        self._kopf: tuple[asyncio.AbstractEventLoop, WebhookFn] | None = None
        self._metrics = metrics
        metrics.may_fail(_REASONS.values())
        self._waiting = waiting
        self._held = 0
        self._listeners: list[tuple[asyncio.Server, _Connections]] = []

    async def __call__(self, fn: WebhookFn) -> AsyncIterator[WebhookClientConfig]:
        """kopf's contract of a webhook server: one client configuration, then never return.

        `fn` answers reviews by kopf's handlers, in kopf's loop: those of our own kinds. Workloads
        never get there: the engine answers them without kopf.
        """
        self._kopf = asyncio.get_running_loop(), fn
        try:
            yield {}
            await asyncio.Event().wait()
        finally:
            self._kopf = None

    # --- listening ------------------------------------------------------------------------------

    async def listen(self, bound: socket.socket, context: ssl.SSLContext | None = None) -> None:
        """Serve everything on this socket with TLS; without it only what is said of ourselves.

        Raises OSError: two processes may bind an address that neither listens on yet.
        """
        loop = asyncio.get_running_loop()
        bound.listen(MAX_CONNECTIONS)  # uvloop tells nobody that it could not
        connections = _Connections(self._admission if context else self._plain)
        server = await loop.create_server(
            connections,
            sock=bound,
            ssl=context,
            backlog=MAX_CONNECTIONS,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
            ssl_shutdown_timeout=STOP_SECONDS if context else None,
        )
        self._listeners.append((server, connections))

    def drain(self) -> None:
        """Go on serving, but tell everybody to go elsewhere."""
        self._waiting.add("stopping")
        for _, connections in self._listeners:
            connections.draining = True

    async def stop(self) -> None:
        """Take no more connections, let what is being asked and answered end, close the rest."""
        self.drain()
        for server, _ in self._listeners:
            server.close()
        for _, connections in self._listeners:
            with suppress(TimeoutError):
                await asyncio.wait_for(connections.idle.wait(), STOP_SECONDS)
            await connections.shutdown(STOP_SECONDS)
        self._listeners.clear()

    # --- answering ------------------------------------------------------------------------------

    async def _admission(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.path_qs.partition("?")
        if path == "/mutate":
            return await self._answer("mutate", request, query)
        if path == "/validate":
            return await self._answer("validate", request, query)
        if path == "/namespaces":
            return await self._answer("namespaces", request, query)
        if path == "/resources":
            return await self._own(request, query)
        return self._about(path, request)

    async def _plain(self, request: web.BaseRequest) -> web.StreamResponse:
        return self._about(request.path_qs.partition("?")[0], request)

    async def _answer(
        self, webhook: Judge, request: web.BaseRequest, query: str
    ) -> web.StreamResponse:
        started = time.perf_counter()
        held = 0
        try:
            body = await self._body(request, query)
            held = self._hold(body)
            ends = started + min(FACTS_SECONDS, FACTS_SHARE * _deadline(query))
            answer = await self._knowing(webhook, body, ends)
        except Refused as error:
            return self._refuse(error)
        finally:
            self._held -= held
        self._metrics.answered(webhook, answer, time.perf_counter() - started)
        if not answer.allowed:
            _log_denial(webhook, answer)
        self._answered(answer)
        return web.Response(body=answer.body, content_type=_JSON)

    async def _body(self, request: web.BaseRequest, query: str) -> bytes:
        if request.method != "POST":
            raise Refused(405, "only POST is answered here")
        if request.content_type != _JSON or "Content-Encoding" in request.headers:
            raise Refused(415, f"only plain {_JSON} is read")
        length = request.content_length
        size = MAX_BODY if length is None else length
        if size > MAX_BODY:
            raise Refused(413, f"more than {MAX_BODY} bytes")
        if length is not None and request.content.is_eof():
            return request.content.read_nowait()  # all of it came with the headers
        if self._held + size > MAX_BODIES:
            raise Refused(503, "too many large reviews at once")
        self._held += size
        try:
            async with asyncio.timeout(_deadline(query)):
                return await request.read()
        except TimeoutError:
            raise Refused(408, "the review did not arrive within its timeout") from None
        except web.HTTPRequestEntityTooLarge:
            raise Refused(413, f"more than {MAX_BODY} bytes") from None
        except (ConnectionError, web.RequestPayloadError):
            raise Refused(400, "the review broke off") from None
        finally:
            self._held -= size

    def _hold(self, body: bytes) -> int:
        """What it takes of MAX_BODIES, decoded as much again. Raises Refused."""
        size = 2 * len(body) if len(body) > SMALL_BODY else 0
        if self._held + size > MAX_BODIES:
            raise Refused(503, "too many large reviews at once")
        self._held += size
        return size

    async def _look_up(self, namespace: str, seconds: float) -> None:
        """A Namespace whose labels cannot be had is an error, never one without labels."""
        try:
            await self._policies.look_up(namespace, seconds)
        except ApiError as error:
            logger.warning(
                "namespace not read", extra=fields(namespace=namespace, error=str(error))
            )
            raise Refused(500, "the labels of the request's namespace cannot be read") from None

    async def _knowing(self, webhook: Judge, body: bytes, ends: float) -> Answer:
        """Judged once everything is known that decides, which mostly it is.

        What is asked for is there by `ends`, of time.perf_counter(): the API server's own deadline
        leaves room for an answer without it.
        """
        source: Source | None = self._images.known if self._images is not None else None
        for _ in range(MOST_LOOK_UPS):
            try:
                return self._judged(webhook, body, source)
            except NamespaceUnknown as unknown:
                await self._look_up(unknown.name, _left(ends))
            except FactsNeeded as needed:
                assert self._images is not None  # noqa: S101 - it is what needed them
                facts = await self._images.gather(needed.inquiry, _left(ends))
                source = partial(_given, facts)
        raise Refused(500, "what decides is forgotten as fast as it is looked up: try again")

    def _judged(self, webhook: Judge, body: bytes, source: Source | None) -> Answer:
        try:
            if webhook == "namespaces":
                return judge_namespace(body, self._policies.governance)
            return respond(webhook, body, self._policies.known(source))
        except BadReview as error:
            raise Refused(error.status, str(error)) from None
        except (NamespaceUnknown, FactsNeeded):
            raise
        except Exception:
            logger.exception("review failed", extra=fields(webhook=webhook, uid=_uid(body)))
            raise Refused(500, "internal error, see the operator's log") from None

    async def _own(self, request: web.BaseRequest, query: str) -> web.StreamResponse:
        """One of our own kinds, by kopf's handler of that kind: for an id that it does not know
        kopf would allow everything."""
        started = time.perf_counter()
        try:
            body = await self._body(request, query)
            review, handler = _own_review(body)
            response = await self._by_kopf(review, handler, _deadline(query))
        except Refused as error:
            return self._refuse(error)
        if (response["response"].get("status") or {}).get("code") == 500:
            return self._refuse(Refused(500, "internal error, see the operator's log"))
        self._metrics.answered_own(review, response, time.perf_counter() - started)
        return web.Response(body=msgspec.json.encode(response), content_type=_JSON)

    async def _by_kopf(
        self, review: dict[str, Any], handler: str, seconds: float
    ) -> dict[str, Any]:
        if self._kopf is None:
            raise Refused(503, "HardeningPolicies cannot be reviewed yet: try again in a moment")
        loop, fn = self._kopf
        answering: Coroutine[Any, Any, Any] = fn(review, webhook=handler)  # type: ignore[arg-type, assignment]
        call = asyncio.run_coroutine_threadsafe(answering, loop)
        try:
            async with asyncio.timeout(seconds):
                return dict(await asyncio.wrap_future(call))
        except TimeoutError:
            raise Refused(500, "no answer within the review's timeout") from None
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            raise Refused(503, "watching has just ended: try again in a moment") from None
        except Exception as error:
            if own_reviews.unknown(error):
                self._policies.unknown(handler)
                raise Refused(
                    503, f"{handler} are not watched yet: try again in a moment"
                ) from None
            logger.exception("review of an own object failed", extra=fields(resource=handler))
            raise Refused(500, "internal error, see the operator's log") from None

    def _refuse(self, error: Refused) -> web.StreamResponse:
        reason = _REASONS.get(error.status, "other")
        self._metrics.failed(reason)
        if reason not in _QUIET:
            logger.warning("review refused", extra=fields(status=error.status, reason=str(error)))
        return _status(error)

    def _about(self, path: str, request: web.BaseRequest) -> web.StreamResponse:
        if path not in ("/healthz", "/readyz", "/metrics"):
            self._metrics.failed(_REASONS[404])
            return _status(Refused(404, PATHS))
        if request.method not in ("GET", "HEAD"):
            return _status(Refused(405, "only GET is answered here"))
        if path == "/metrics":
            return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})
        if path == "/readyz" and self._waiting:
            text = f"not ready: {', '.join(sorted(self._waiting))}\n"
            return web.Response(status=503, text=text)
        return web.Response(text="ok\n")


class _Connections(web.Server):
    """Bounds how many connections there are, how long each is idle, and how long it lasts."""

    def __init__(self, answer: Handler) -> None:
        super().__init__(
            self._serve,
            request_factory=self._request,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self._answer = answer
        self._retires: dict[RequestHandler, float] = {}
        self._requests = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.draining = False

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._retires) >= MAX_CONNECTIONS:
            transport.abort()
        else:
            self._retires[handler] = self._loop.time() + SystemRandom().uniform(*CONNECTION_SECONDS)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._retires.pop(handler, None)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self._requests += 1
        self.idle.clear()
        try:
            response = await self._answer(request)
        finally:
            self._requests -= 1
            if not self._requests:
                self.idle.set()
        if self.draining or self._loop.time() > self._retires.get(request.protocol, 0.0):
            response.force_close()
        return response

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=MAX_BODY
        )


def bind(address: Address) -> socket.socket:
    """A bound socket that does not listen yet. Raises OSError."""
    if not address.host and socket.has_dualstack_ipv6():
        bound = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        where: tuple[Any, ...] = ("::", address.port)
    else:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, where = found[0]
        bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
    except OSError:
        bound.close()
        raise
    return bound


def _left(ends: float) -> float:
    return max(0.0, ends - time.perf_counter())


def _given(facts: Facts, _: Inquiry) -> Facts:
    return facts


@lru_cache(maxsize=64)
def _deadline(query: str) -> float:
    """Seconds that `?timeout=` gives us. API servers send whole seconds, as `5s`."""
    match = _TIMEOUT.search(query)
    return min(MAX_DEADLINE, float(match[1]) * _UNIT[match[2]]) if match else DEFAULT_DEADLINE


def _status(error: Refused) -> web.Response:
    """A metav1.Status: API servers show its message to the user where the failurePolicy is Fail."""
    body = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": error.status,
        "message": str(error),
    }
    response = web.Response(status=error.status, body=msgspec.json.encode(body), content_type=_JSON)
    response.force_close()
    return response


def _own_review(body: bytes) -> tuple[dict[str, Any], str]:
    """The review and the id of the handler that it is for. Raises Refused."""
    try:
        review = msgspec.json.decode(body, type=dict[str, Any])
        head = msgspec.convert(review, OwnReview)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"not an AdmissionReview: {error}") from None
    resource, request = head.request.resource, head.request
    ours = resource.group == GROUP and resource.resource in own_reviews.REVIEWED
    if head.apiVersion != API_VERSION or not request.uid or not ours or request.object is None:
        raise Refused(400, f"only {API_VERSION} of objects of {GROUP} are reviewed here")
    return review, resource.resource


class OwnResource(msgspec.Struct, frozen=True):
    group: str
    resource: str


class OwnRequest(msgspec.Struct, frozen=True):
    uid: str
    resource: OwnResource
    userInfo: dict[str, Any]  # noqa: N815
    object: dict[str, Any] | None = None


class OwnReview(msgspec.Struct, frozen=True):
    apiVersion: str  # noqa: N815
    request: OwnRequest


def _log_denial(webhook: Judge, answer: Answer) -> None:
    denied = {violation.rule for violation in answer.violations if "Deny" in violation.actions}
    logger.info(
        "denied",
        extra=fields(
            webhook=webhook,
            uid=answer.uid,
            operation=answer.operation,
            kind=answer.kind,
            namespace=answer.namespace,
            rules=sorted(denied),
        ),
    )


class _RequestUid(msgspec.Struct, frozen=True):
    uid: str = ""


class _Uid(msgspec.Struct):
    request: _RequestUid = _RequestUid()


def _uid(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Uid).request.uid
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
