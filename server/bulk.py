"""`GET /bulk/{id}.jsonl`: the result of a bulk job, piece by piece, for who asked for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from domain import bulk
from domain.bulk import ResultExpired
from domain.core import audit, ids
from domain.core.errors import DomainError, NotFound, Unavailable
from domain.identity import Forbidden, Unauthenticated
from resolvers import bulk as resolve
from resolvers.context import Context
from resolvers.errors import InsufficientScope
from server.bearer import challenge_of, viewer_of
from server.graphql.request import headers, request_id

_STATUS: dict[type[DomainError], int] = {
    Unauthenticated: 401,
    Forbidden: 403,
    InsufficientScope: 403,
    NotFound: 404,
    ResultExpired: 410,
    Unavailable: 503,
}


async def fetch(request: Request) -> Response:
    """200 with `application/jsonl`, one object per line.

    The token comes in the Authorization header only, so no foreign page can send one. 401, 403 (the right was lost),
    404 (no such job of this caller, or no result yet), 410 (kept for seven days), 503 with `{"code": …}`.
    """
    try:
        viewer = await viewer_of(request)
        try:
            job_id = ids.decode(request.path_params["id"], "blk")
        except ids.IdInvalid:
            raise NotFound() from None
        told = Context(request_id=request_id(headers(request.scope["headers"])))
        audit.comes_from(request.client.host if request.client else None)
        job = await resolve.fetch(viewer, job_id, told)
        pieces = bulk.result(job)
        # The first piece before the first byte: whatever is wrong can still be said.
        first = await anext(pieces, b"")
    except tuple(_STATUS) as refused:
        status = next(found for kind, found in _STATUS.items() if isinstance(refused, kind))
        return _refused(status, refused)
    return StreamingResponse(
        _stream(first, pieces),
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{ids.encode("blk", job.id)}.jsonl"',
            # A body that breaks off must not look whole.
            "Content-Length": str(job.size),
            "X-Content-Type-Options": "nosniff",
        },
        media_type="application/jsonl",
    )


async def _stream(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _refused(status: int, error: DomainError) -> Response:
    given = {"Cache-Control": "no-store", **challenge_of(status, error)}
    return Response(
        orjson.dumps({"code": error.code}), status, given, media_type="application/json"
    )


def routes() -> list[Route]:
    """`GET /bulk/{id}.jsonl`."""
    return [Route("/bulk/{id}.jsonl", fetch, methods=["GET"])]
