"""`POST /exports`: the goods of an approved export as CSV, once, for the person who approved it."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from domain import identity
from domain.alarms import ExportsStopped
from domain.core.errors import DomainError, NotFound, Unavailable
from domain.core.four_eyes import ApprovalClosed
from domain.core.once import InProgress
from domain.identity import Forbidden, Unauthenticated
from resolvers import exports
from server.graphql.request import bearer, headers, request_id

BODY_MAX = 4_096
_STATUS: dict[type[DomainError], int] = {
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    InProgress: 409,
    ApprovalClosed: 410,
    ExportsStopped: 423,
    Unavailable: 503,
}


async def fetch(request: Request) -> Response:
    """200 with `text/csv`, one key per line; the body is `{"token": …}` of `approveGoodsExport`.

    The session comes in the Authorization header only, so no foreign page can send one. 400, 401, 403, 404 (no such
    token for this person), 409 (being fetched), 410 (fetched before), 423 (an alert waits for an
    owner), 503 with `{"code": …}`; nothing is exported then.
    """
    try:
        session = bearer(request.headers.get("authorization"))
        viewer = await identity.viewer(session) if session else None
        if viewer is None:
            raise Unauthenticated()
        token = await _token(request)
        if token is None:
            return _refused(400, "BAD_USER_INPUT")
        text = await exports.fetch(
            viewer,
            token,
            address=request.client.host if request.client else None,
            request_id=request_id(headers(request.scope["headers"])),
        )
    except tuple(_STATUS) as refused:
        return _refused(_STATUS[type(refused)], refused.code)
    except ClientDisconnect:
        return _refused(400, "BAD_USER_INPUT")
    return Response(
        text,
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": 'attachment; filename="goods.csv"',
            "X-Content-Type-Options": "nosniff",
        },
        media_type="text/csv; charset=utf-8",
    )


async def _token(request: Request) -> str | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            return None
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    token = found.get("token") if isinstance(found, dict) else None
    return token if isinstance(token, str) else None


def _refused(status: int, code: str) -> Response:
    given = {"Cache-Control": "no-store"}
    if status == 401:
        given["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps({"code": code}), status, given, media_type="application/json")


def routes() -> list[Route]:
    """`POST /exports`."""
    return [Route(exports.PATH, fetch, methods=["POST"])]
