"""`POST /uploads`: a file sent ahead of an import as a raw body, streamed sealed to disk; answers its id."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from domain import catalogue, identity
from domain.core import ids
from domain.core.errors import Unavailable
from domain.identity import Forbidden, Role, Unauthenticated, Viewer
from resolvers.access import STOCKERS
from server.graphql.request import bearer

_STATUS = {"UNAUTHENTICATED": 401, "FORBIDDEN": 403, "UNAVAILABLE": 503}


async def receive(request: Request) -> Response:
    """201 with `{"id": "upl_…", "size": bytes}` for members who may stock a shop.

    The token comes in the Authorization header only, so no foreign page can send one. 401, 403, 413 (more
    than 32 MiB), 415 (a compressed body), 429 (too many wait), 400 (empty) with `{"code": …}`; nothing is
    kept then.
    """
    try:
        viewer = await _viewer(request)
        if request.headers.get("content-encoding", "identity") != "identity":
            return _answer(415, {"code": "BAD_USER_INPUT"})
        if int(request.headers.get("content-length") or 0) > catalogue.UPLOAD_MAX:
            raise catalogue.UploadRefused(reason="size", max=catalogue.UPLOAD_MAX)
        made = await catalogue.receive_upload(request.stream(), viewer.account_id)
    except catalogue.UploadRefused as refused:
        status = {"size": 413, "waiting": 429}.get(refused.facts["reason"], 400)
        return _answer(status, {"code": refused.code, **refused.facts})
    except (Unauthenticated, Forbidden, Unavailable) as refused:
        return _answer(_STATUS[refused.code], {"code": refused.code})
    except (ClientDisconnect, ValueError):
        return _answer(400, {"code": "BAD_USER_INPUT"})
    return _answer(201, {"id": ids.encode("upl", made.id), "size": made.size})


async def _viewer(request: Request) -> Viewer:
    """Who sends. Errors: Unauthenticated, Forbidden."""
    token = bearer(request.headers.get("authorization"))
    viewer = await identity.viewer(token) if token else None
    if viewer is None:
        raise Unauthenticated()
    if not any(role in (Role.OWNER, *STOCKERS) for role in viewer.roles.values()):
        raise Forbidden()
    return viewer


def _answer(status: int, body: dict[str, Any]) -> Response:
    headers = {"Cache-Control": "no-store"}
    if status in (429, 503):
        headers["Retry-After"] = "60" if status == 429 else "2"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def routes() -> list[Route]:
    """`POST /uploads`."""
    return [Route("/uploads", receive, methods=["POST"])]
