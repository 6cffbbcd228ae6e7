"""The HTTP application: one table of routes, and the same handling around each.

Bodies are read with a limit and a deadline, requests are parsed by `zopp.protocol` and by nothing else, refusals become
problem+json. What nobody foresaw is a 500 that says no more than that; its cause goes to the server's own log.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route as Endpoint
from starlette.types import Receive, Scope, Send

from zopp.errors import ZoppError
from zopp.policy import canonical
from zopp.protocol import messages
from zopp_server.auth import bad_signature
from zopp_server.calls import Answer, Call, Refusal, answer_of, query, refusal
from zopp_server.limits import client_address
from zopp_server.observability import RECORD, Record
from zopp_server.routes import audit, keys, log, manifests, oidc, releases, statements, workspaces
from zopp_server.service import Service

MAX_BODY = 65536
MAX_HEADERS = 16384
READ_SECONDS = 10.0

Failed = Callable[[str, BaseException], None]
Handler = Callable[[Service, Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of docs/reference/http.md. `callers`: who may sign (empty: open). `query`: parameter -> kind. `request`
    and `answer` name messages; `problems` the codes beside those that every route has."""

    method: str
    path: str
    handler: Handler
    summary: str
    callers: tuple[str, ...] = ()
    nonce: bool = False
    request: str | None = None
    answer: str | None = None
    status: int = 200
    type: str = "application/json"
    query: Mapping[str, str] | None = None
    problems: tuple[str, ...] = ()
    max_body: int = MAX_BODY
    more: Callable[[Service, str | None, bytes], Awaitable[bool]] | None = None
    """Whether a body that begins so may be longer than MAX_BODY: asked before it is read."""


async def _server(service: Service, call: Call) -> Answer:
    query(call.query, {})
    body = messages.build_answer("server", log_key=canonical.b64(service.log_key.public), origin=service.origin)
    return Answer(status=200, body=body, outcome="read")


_ANY = ("principal", "ci")
_PAGE = dict(audit.FILTERS)
_COUNT = {name: kind for name, kind in audit.FILTERS.items() if name not in ("before", "limit", "size")}

ROUTES = (
    Route(method="GET", path="/v1/server", handler=_server, summary="Origin and log key", answer="server"),
    Route(
        method="POST", path="/v1/workspaces/{ws}", handler=workspaces.post, summary="Make a workspace from its log",
        callers=("code",), request="workspace", answer="workspace", status=201, max_body=messages.MAX_LOG,
        more=workspaces.begun,
        problems=("denied", "stale_prev", "refused", "clock_skew", "replayed"), nonce=True,
    ),
    Route(
        method="GET", path="/v1/policy/{ws}", handler=statements.get, summary="Lines of the policy log",
        callers=("principal", "invite", "ci"), answer="policy", query={"from": "int", "size": "int"},
        problems=("not_found",),
    ),
    Route(
        method="POST", path="/v1/policy/{ws}", handler=statements.post, summary="Accept a statement",
        callers=("principal", "invite"), nonce=True, request="statement", answer="statement",
        problems=("stale_prev", "denied", "refused"),
    ),
    Route(
        method="POST", path="/v1/releases/{ws}", handler=releases.post, summary="Release file keys",
        callers=_ANY, nonce=True, request="release", answer="release", problems=("denied", "unmatched"),
    ),
    Route(
        method="POST", path="/v1/keys/{ws}", handler=keys.post, summary="Propose a server key",
        callers=("principal",), nonce=True, request="key", answer="key", problems=("denied", "not_found"),
    ),
    Route(
        method="POST", path="/v1/manifests/{ws}", handler=manifests.post, summary="Tell a manifest's head",
        callers=("principal",), nonce=True, request="manifest", answer="manifest", problems=("denied", "refused"),
    ),
    Route(
        method="GET", path="/v1/manifests/{ws}", handler=manifests.get, summary="Known heads of manifests",
        callers=_ANY, answer="manifests", query={},
    ),
    Route(
        method="POST", path="/v1/oidc/{ws}", handler=oidc.post, summary="Register a CI job",
        callers=("job",), nonce=True, request="oidc", answer="oidc", problems=("denied",),
    ),
    Route(
        method="GET", path="/v1/audit/{ws}", handler=audit.get, summary="Entries, newest first",
        callers=("principal",), nonce=True, answer="entries", query=_PAGE, problems=("denied",),
    ),
    Route(
        method="GET", path="/v1/audit/{ws}/count", handler=audit.count, summary="Number of entries",
        callers=("principal",), nonce=True, answer="count", query=_COUNT, problems=("denied",),
    ),
    Route(
        method="GET", path="/v1/audit/{ws}/export", handler=audit.export, summary="Entries in order",
        callers=("principal",), nonce=True, answer="entries",
        query={"from": "int", "limit": "int", "size": "int"}, problems=("denied",),
    ),
    Route(
        method="GET", path="/v1/log/{ws}/checkpoint", handler=log.checkpoint, summary="The newest signed head",
        callers=_ANY, type="text/plain", query={},
    ),
    Route(
        method="GET", path="/v1/log/{ws}/proof/inclusion", handler=log.inclusion, summary="An inclusion proof",
        callers=_ANY, answer="proof", query={"index": "int", "size": "int"}, problems=("not_found",),
    ),
    Route(
        method="GET", path="/v1/log/{ws}/proof/consistency", handler=log.consistency, summary="A consistency proof",
        callers=_ANY, answer="proof", query={"from": "int", "size": "int"}, problems=("not_found",),
    ),
    Route(
        method="GET", path="/v1/log/{ws}/tile/{rest:path}", handler=log.tile, summary="A tile, or a bundle of entries",
        callers=_ANY, type="application/octet-stream", query={}, problems=("not_found", "denied"),
    ),
)  # fmt: skip


def build(
    service: Service, *, failed: Failed | None = None, health: Callable[[], list[str]] | None = None
) -> Starlette:
    """The application. `health` gives the reasons for not being ready; none if ready. `failed` hears of what no answer
    says: (route, what happened)."""
    hear = failed or (lambda route, cause: None)
    reasons = health or (list)

    async def live(request: Request) -> Response:
        request.scope["route"] = _Health("/livez")
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(request: Request) -> Response:
        request.scope["route"] = _Health(request.url.path)
        found = reasons()
        body = canonical.encode({"reasons": found, "status": "unavailable" if found else "ok"})
        return Response(body, 503 if found else 200, media_type="application/json")

    async def missing(request: Request, exc: Exception) -> Response:
        return _response(answer_of(Refusal("not_found", "there is nothing at this address")))

    async def method(request: Request, exc: Exception) -> Response:
        return _response(answer_of(Refusal("bad_request", "this address does not take that method")))

    routes: list[BaseRoute] = [
        Endpoint(route.path, _Endpoint(service, route, hear), methods=[route.method]) for route in ROUTES
    ]
    routes += [Endpoint("/livez", live), Endpoint("/readyz", ready), Endpoint("/healthz", ready)]
    return Starlette(routes=routes, exception_handlers={404: missing, 405: method})


@dataclass(frozen=True, slots=True)
class _Health:
    """What the middleware reads a route's template from."""

    path: str


class _Endpoint:
    """One route as an ASGI application, so that nothing stands between the router and it."""

    def __init__(self, service: Service, route: Route, failed: Failed) -> None:
        self._service, self._route, self._failed = service, route, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._route
        cause: BaseException | None = None
        scope["route"] = route
        try:
            call = await _call(self._service, scope, receive, route)
            answer = await route.handler(self._service, call)
        except Refusal as exc:
            answer = answer_of(exc)
        except ZoppError as exc:
            cause = exc.__cause__
            answer = answer_of(refusal(exc))
        except ClientDisconnect:
            answer = answer_of(Refusal("bad_request", "the request's body did not come in time"))
        except Exception as exc:
            cause = exc
            answer = answer_of(Refusal("internal", "the server failed; nothing was released"))
        if cause is not None:
            self._failed(route.path, cause)
        record = scope.get(RECORD)
        if record is not None:
            _tell(record, scope, answer)
        await _send(send, answer)


def _tell(record: Record, scope: Scope, answer: Answer) -> None:
    """What the line of this request says; names only once they are verified ones."""
    record.request = None if answer.id is None else canonical.b64(answer.id)
    if answer.caller is not None:
        record.workspace, record.principal = scope["path_params"].get("ws"), answer.caller
    good = answer.status < 400
    record.outcome = "allow" if good else "error" if answer.status >= 500 else "deny"
    record.reason = None if good else answer.outcome


async def _call(service: Service, scope: Scope, receive: Receive, route: Route) -> Call:
    raw, client = scope["headers"], scope.get("client")
    addr = None if client is None else _address(service, client[0], raw)
    if sum(len(name) + len(value) for name, value in raw) > MAX_HEADERS:
        raise Refusal("too_large", "the request's header is too long")
    if route.method == "GET":
        body = b""
        if any(name == b"content-length" and value != b"0" for name, value in raw) or any(
            name == b"transfer-encoding" for name, _ in raw
        ):
            raise Refusal("bad_request", "a GET has no body")
    else:
        try:
            async with asyncio.timeout(READ_SECONDS * (1 + route.max_body // 2**22)):
                body = await _body(service, route, addr, raw, receive)
        except TimeoutError:
            raise Refusal("bad_request", "the request's body did not come in time") from None
    path = scope.get("raw_path") or scope["path"].encode()
    if b"%" in path:
        # One spelling: the router reads the path decoded, and the log and its auditors as it was signed.
        raise Refusal("bad_signature", bad_signature().message)
    return Call(
        method=route.method,
        path=path.partition(b"?")[0].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        fields=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw],
        body=body,
        addr=addr,
        ws=scope["path_params"].get("ws", ""),
        rest=scope["path_params"].get("rest", ""),
    )


def _address(service: Service, peer: str, raw: list[tuple[bytes, bytes]]) -> str | None:
    """As the database takes it, without a zone (`%eth0`): None for what is no address."""
    if service.proxies:
        forwarded = b",".join(value for name, value in raw if name == b"x-forwarded-for").decode("latin-1")
        peer = client_address(peer, forwarded, service.proxies)
    return _plain(peer)


@lru_cache(maxsize=4096)
def _plain(peer: str) -> str | None:
    peer = peer.partition("%")[0]
    try:
        ipaddress.ip_address(peer)
    except ValueError:
        return None
    return peer


async def _body(
    service: Service, route: Route, addr: str | None, raw: list[tuple[bytes, bytes]], receive: Receive
) -> bytes:
    for name, value in raw:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > route.max_body:
            raise Refusal("too_large", "the request's body is too long")
    parts: list[bytes] = []
    size, more, limit = 0, True, MAX_BODY
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        parts.append(part)
        if size > limit and route.more is not None and await route.more(service, addr, b"".join(parts)[:MAX_BODY]):
            limit = route.max_body
        if size > limit:
            raise Refusal("too_large", "the request's body is too long")
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send(send: Send, answer: Answer) -> None:
    headers = [
        (b"content-type", answer.type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
        *((name.lower().encode(), value.encode()) for name, value in answer.headers),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _response(answer: Answer) -> Response:
    headers = dict(answer.headers)
    headers["Cache-Control"] = "no-store"
    return Response(answer.body, answer.status, headers, answer.type)
