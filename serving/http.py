"""The HTTP interface of a replica, as an ASGI application: routes, token, limits, JSON, figures.

All that a client can do wrong is answered in JSON, see `serving.refusals`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from gru4rec.errors import unknown_name
from serving.access import digest_of
from serving.metrics import CONTENT_TYPE, Metrics
from serving.recommender import Answer
from serving.refusals import Refusal
from serving.requests import Limits, RecommendRequest, parse_recommend, parse_swap

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ROUTES = {"/health": "GET", "/metadata": "GET", "/metrics": "GET", "/recommend": "POST", "/swap": "POST"}
RETRY_AFTER_S = 1
logger = logging.getLogger(__name__)


class Service(Protocol):
    """What a replica does behind the interface."""

    def metadata(self) -> dict[str, Any]:
        """Return what is known of the model."""

    async def recommend(self, request: RecommendRequest) -> tuple[list[Answer], str]:
        """Return the answer to each session, and the digest of the model that gave them."""

    async def swap(self, path: str) -> dict[str, Any]:
        """Serve another model from now on, on all replicas; return what came of it."""

    async def metrics_text(self) -> str:
        """Return the figures of all replicas."""


@dataclass(frozen=True)
class Reply:
    """An answer of HTTP."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Interface:
    """The ASGI application.

    Parameters
    ----------
    service : Service
    limits : Limits
    token_digest : str, optional
        See `serving.access`; None asks for no token, and refuses to swap.
    metrics : Metrics
        Where requests are counted.
    """

    def __init__(self, service: Service, limits: Limits, token_digest: str | None, metrics: Metrics) -> None:
        self._service, self._limits, self._token_digest, self._metrics = service, limits, token_digest, metrics
        self._in_flight = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this server speaks HTTP, got {scope['type']}")
        began = time.perf_counter()
        route = scope["path"] if scope["path"] in ROUTES else "other"
        self._count_in_flight(1)
        try:
            reply = await self._reply(scope, receive)
        finally:
            self._count_in_flight(-1)
        headers = [("content-type", reply.content_type), ("content-length", str(len(reply.body))), *reply.headers]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
        await send({"type": "http.response.body", "body": reply.body})
        self._metrics.add("gru4rec_requests_total", route=route, status=str(reply.status))
        self._metrics.observe("gru4rec_request_seconds", time.perf_counter() - began, route=route)

    def _count_in_flight(self, change: int) -> None:
        self._in_flight += change
        self._metrics.add("gru4rec_in_flight", change)

    async def _reply(self, scope: Message, receive: Receive) -> Reply:
        try:
            return await self._answer(scope, receive)
        except Refusal as refusal:
            return json_reply(refusal.content, refusal.status, refusal.headers)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            failed = Refusal(500, "internal", "the server failed; its log has the reason")
            return json_reply(failed.content, failed.status)

    async def _answer(self, scope: Message, receive: Receive) -> Reply:
        path = scope["path"]
        if path == "/health":
            return json_reply({"status": "ok"})
        headers = dict(scope["headers"])
        self._check_token(headers.get(b"authorization", b""))
        self._check_route(path, scope["method"])
        if path == "/metadata":
            return json_reply(self._service.metadata())
        if path == "/metrics":
            return Reply((await self._service.metrics_text()).encode(), content_type=CONTENT_TYPE)
        if path == "/swap":
            return await self._swap(await self._read_body(headers, receive))
        if self._in_flight > self._limits.max_in_flight:
            text = f"{self._limits.max_in_flight} requests are waiting already"
            raise Refusal(503, "overloaded", text, headers={"retry-after": str(RETRY_AFTER_S)})
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await self._recommend(await self._read_body(headers, receive))
        except TimeoutError:
            text = f"no answer within {self._limits.timeout_s:g} s"
            raise Refusal(503, "timeout", text, headers={"retry-after": str(RETRY_AFTER_S)}) from None

    async def _recommend(self, body: bytes) -> Reply:
        request = parse_recommend(body, self._limits)
        answers, digest = await self._service.recommend(request)
        results = [asdict(answer) for answer in answers]
        return json_reply(results[0] if request.single else {"results": results}, headers={"x-model-digest": digest})

    async def _swap(self, body: bytes) -> Reply:
        if self._token_digest is None:
            text = "a server without a token swaps no models; hint: start it with GRU4REC_SERVE_TOKEN or --token-file"
            raise Refusal(403, "no_token", text)
        return json_reply(await self._service.swap(parse_swap(body)))

    def _check_token(self, authorization: bytes) -> None:
        if self._token_digest is None:
            return
        scheme, _, token = authorization.partition(b" ")
        right = hmac.compare_digest(digest_of(token.strip()), self._token_digest)
        if scheme.lower() != b"bearer" or not right:
            text = "the header Authorization must be 'Bearer' and the token of this server"
            raise Refusal(401, "unauthorized", text, headers={"www-authenticate": "Bearer"})

    def _check_route(self, path: str, method: str) -> None:
        if path not in ROUTES:
            raise Refusal(404, "not_found", unknown_name(path[:100], ROUTES, "path"))
        if method != ROUTES[path]:
            text = f"{path} takes {ROUTES[path]}, got {method}"
            raise Refusal(405, "method_not_allowed", text, headers={"allow": ROUTES[path]})

    async def _read_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        most = self._limits.max_body_bytes
        size = int(headers.get(b"content-length", b"0"))
        parts = []
        more = size <= most
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "incomplete", "the client went away before its request was whole")
            parts.append(message.get("body", b""))
            size = sum(map(len, parts))
            more = message.get("more_body", False) and size <= most
        if size > most:  # the connection is of no use: the rest of the body is still to come
            raise Refusal(413, "too_large", f"the body must be at most {most} bytes", headers={"connection": "close"})
        return b"".join(parts)


def json_reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return an answer in JSON."""
    return Reply(json.dumps(content).encode(), status, headers=tuple((headers or {}).items()))
