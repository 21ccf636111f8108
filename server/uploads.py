"""`POST /uploads`: a file sent ahead of an import as a raw body, streamed sealed to disk; answers its id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from domain import catalogue
from domain.core import ids
from domain.core.errors import Unavailable
from domain.identity import Forbidden, Role, Unauthenticated, Viewer
from domain.partners import Scope
from resolvers.bulk import IMPORTABLE
from server.bearer import challenge_of, viewer_of

# Whoever may use a file: `importCards`, or a mutation run per line.
_ROLES = {Role.OWNER, *(role for roles in IMPORTABLE.values() for role in roles)}
_SCOPES = {Scope.CATALOGUE_WRITE, Scope.STOCK_WRITE, Scope.ORDERS_WRITE}
_STATUS = {"UNAUTHENTICATED": 401, "FORBIDDEN": 403, "UNAVAILABLE": 503}


async def receive(request: Request) -> Response:
    """201 with `{"id": "upl_…", "size": bytes}` for members who may stock a shop or hand over goods, and their apps.

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
        return _answer(
            status, {"code": refused.code, **refused.facts}, challenge_of(status, refused)
        )
    except (Unauthenticated, Forbidden, Unavailable) as refused:
        status = _STATUS[refused.code]
        return _answer(status, {"code": refused.code}, challenge_of(status, refused))
    except (ClientDisconnect, ValueError):
        return _answer(400, {"code": "BAD_USER_INPUT"})
    return _answer(201, {"id": ids.encode("upl", made.id), "size": made.size})


async def _viewer(request: Request) -> Viewer:
    """Who sends. Errors: Unauthenticated, Forbidden."""
    viewer = await viewer_of(request)
    is_closed = viewer.app is not None and not viewer.app.scopes & _SCOPES
    if is_closed or not _ROLES & set(viewer.roles.values()):
        raise Forbidden()
    return viewer


def _answer(status: int, body: dict[str, Any], more: Mapping[str, str] | None = None) -> Response:
    headers = {"Cache-Control": "no-store", **(more or {})}
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def routes() -> list[Route]:
    """`POST /uploads`."""
    return [Route("/uploads", receive, methods=["POST"])]
