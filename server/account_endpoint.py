"""From a request to the answer of a page of accounts: its form read, refusals said, cookies set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

import i18n
from server import account_html as html
from server.account_asking import (
    LANGUAGE_COOKIE,
    LANGUAGE_S,
    PROOF,
    SIGN_IN,
    Foreign,
    Lost,
    Refusal,
    Visit,
    finish,
    form_of,
    language_of,
    lead,
)
from server.graphql.http import STATUS
from server.pages import LOST

Act = Callable[[Visit], Awaitable[Response]]


def page(get: Act, post: Act | None = None) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a page: `get` shows it, `post` does what its form asks for."""

    async def serve(request: Request) -> Response:
        chosen = request.query_params.get("language")
        visit = Visit(request, language_of(request))
        if request.method == "GET" and chosen in i18n.LANGUAGES:
            visit.cookies.append((LANGUAGE_COOKIE, chosen, LANGUAGE_S))
            return finish(visit, lead(_without_language(request)))
        try:
            if request.method == "POST" and post is not None:
                visit.form = await form_of(request)
                return finish(visit, await post(visit))
            return finish(visit, await get(visit))
        except Foreign:
            return finish(visit, html.said(visit, "people.foreign", status=403))
        except Lost:
            return finish(visit, html.said(visit, "NOT_FOUND", status=404))
        except ClientDisconnect:
            return Response(status_code=400)
        except Refusal as refusal:
            return finish(visit, _refused(visit, refusal))
        except LOST:
            return finish(visit, html.said(visit, "UNAVAILABLE", status=503))

    return serve


def _refused(visit: Visit, refusal: Refusal) -> Response:
    path = visit.request.url.path
    if refusal.code == "UNAUTHENTICATED":
        return lead(f"{SIGN_IN}?to={quote(path)}")
    if refusal.code == "MFA_REQUIRED":
        return lead(f"{PROOF}?to={quote(path)}")
    status = STATUS.get(refusal.code, 400)
    made = html.message(visit, refusal.message, status=status)
    if refusal.retry_after is not None:
        made.headers["Retry-After"] = str(refusal.retry_after)
    return made


def _without_language(request: Request) -> str:
    kept = [(name, text) for name, text in request.query_params.multi_items() if name != "language"]
    query = "&".join(f"{quote(name)}={quote(text)}" for name, text in kept)
    path = quote(request.url.path)
    return f"{path}?{query}" if query else path
