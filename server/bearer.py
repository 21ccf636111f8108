"""Who holds the token of a request outside of GraphQL: a session, or an app with its proof."""

from __future__ import annotations

from starlette.requests import Request

from domain import identity, partners
from domain.core.errors import DomainError
from domain.identity import Unauthenticated, Viewer
from resolvers.context import Context
from server.graphql import presented
from server.graphql.http import shown_of
from server.graphql.request import bearer, headers


async def viewer_of(request: Request) -> Viewer:
    """The holder of the token in the Authorization header; cookies do not count. Errors: Unauthenticated."""
    token = bearer(request.headers.get("authorization"))
    found: Viewer | None = None
    if token and partners.is_access_token(token):
        raw = headers(request.scope["headers"])
        found = await presented.viewer(token, shown_of(raw, request.method, request.url.path))
    elif token:
        found = await identity.viewer(token)
    if found is None:
        raise Unauthenticated()
    return found


def challenge_of(status: int, error: DomainError) -> dict[str, str]:
    """The headers of a refusal: what a caller may do about it."""
    if status in (429, 503):
        return {"Retry-After": "60" if status == 429 else "2"}
    if status != 401:
        return {}
    found = (
        presented.challenge(error, Context()) if isinstance(error, presented.TokenRefused) else None
    )
    if found is None:
        return {"WWW-Authenticate": "Bearer"}
    return {name.decode(): value.decode() for name, value in found}
