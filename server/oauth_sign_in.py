"""Signing in on a page of ours, with what pages that need it share: password, second factor, forms of our own only.

Reusable: `ask_who(request, to)` answers with the page, and leads to `to` (a path of ours, sealed) once somebody is in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

import i18n
from domain import identity, partners
from domain.core import ids
from domain.core.errors import NotFound, Unavailable
from domain.core.settings import settings
from domain.identity import (
    CredentialsInvalid,
    From,
    MfaNeeded,
    SignIn,
    SignInExpired,
    SignInThrottled,
    TooManyTries,
    TotpInvalid,
    Viewer,
)
from domain.partners import OAuthRefused
from resolvers.context import DEVICE_COOKIE, SESSION_COOKIE
from resolvers.people import DEVICE_COOKIE_S
from server import oauth_html as html
from server.graphql.request import TOKEN_MAX, set_cookie
from server.oauth_limits import calls
from server.oauth_requests import form_of

TO_MAX = 300


def page(
    act: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        language = language_of(request)
        try:
            await calls.take(request)
            return await act(request)
        except OAuthRefused as error:
            # Nobody is sent anywhere: neither the app nor its address is known to be what it says (H15).
            why = f"{error.error}: {error.why}"
            return html.said(language, "oauth.refused", status=error.status, why=why)
        except (NotFound, ids.IdInvalid):
            return html.said(language, "oauth.over", status=400)
        except Unavailable:
            return html.said(language, "UNAVAILABLE", status=503)
        except ClientDisconnect:
            return Response(status_code=400)

    return serve


def language_of(request: Request) -> str:
    """The offered language that the browser likes best."""
    return i18n.negotiate(request.headers.get("accept-language")) or i18n.LANGUAGES[0]


def lead(path: str) -> Response:
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})


async def person(request: Request) -> Viewer | None:
    """Who is signed in in this browser."""
    token = request.cookies.get(SESSION_COOKIE, "")
    return await identity.viewer(token) if 0 < len(token) <= TOKEN_MAX else None


def ask_who(request: Request, to: str, problem: str | None = None) -> Response:
    seal = partners.seal_form("sign-in", to)
    return html.sign_in(language_of(request), to, seal=seal, problem=problem)


async def _sign_in(request: Request) -> Response:
    """Open a session for the browser and go on where it was stopped."""
    form = await own_form(request)
    to = form.get("to", "")
    if len(to) > TO_MAX or not partners.is_form(form.get("seal", ""), "sign-in", to):
        raise NotFound()
    where = _from(request)
    try:
        opened = await identity.sign_in(
            form.get("email", ""),
            form.get("password", ""),
            where.address,
            user_agent=where.user_agent,
            device=where.device,
        )
    except MfaNeeded as needed:
        return _ask_factor(request, to, needed.facts["sign_in_token"])
    except (CredentialsInvalid, SignInThrottled) as error:
        said = i18n.text(error.code, language_of(request), **error.facts)
        return ask_who(request, to, said)
    return await _signed_in(request, to, opened)


def _ask_factor(request: Request, to: str, half: str, problem: str | None = None) -> Response:
    seal = partners.seal_form("factor", to, half)
    return html.enter_factor(language_of(request), to, seal=seal, half=half, problem=problem)


async def _factor(request: Request) -> Response:
    """The other half of a sign-in."""
    form = await own_form(request)
    to, half = form.get("to", ""), form.get("half", "")
    if len(to) > TO_MAX or not partners.is_form(form.get("seal", ""), "factor", to, half):
        raise NotFound()
    try:
        opened = await identity.mfa.complete(half, form.get("code", "").strip(), _from(request))
    except SignInExpired:
        return ask_who(request, to)
    except (TotpInvalid, TooManyTries) as error:
        said = i18n.text(error.code, language_of(request), **error.facts)
        return _ask_factor(request, to, half, said)
    return await _signed_in(request, to, opened)


def _from(request: Request) -> From:
    address = request.client.host if request.client else None
    device = request.cookies.get(DEVICE_COOKIE, "")[:TOKEN_MAX] or None
    return From(address, request.headers.get("user-agent"), device)


async def _signed_in(request: Request, to: str, opened: SignIn) -> Response:
    """The browser of who signed in; the session it had before ends."""
    before = request.cookies.get(SESSION_COOKIE)
    if before is not None:
        await identity.sign_out(before)
    answer = lead(to)
    lasts_s = settings().session_days * 86_400
    kept = (
        (SESSION_COOKIE, opened.token, lasts_s),
        (DEVICE_COOKIE, opened.device, DEVICE_COOKIE_S),
    )
    for cookie in kept:
        text = set_cookie(*cookie, is_secure=not settings().in_development)
        answer.headers.append("set-cookie", text.decode("latin-1"))
    return answer


async def own_form(request: Request) -> dict[str, str]:
    """A form that one of our own pages sent. Errors: OAuthRefused (403) when another site did."""
    ours = urlsplit(settings().public_url)
    if request.headers.get("origin") != f"{ours.scheme}://{ours.netloc}":
        raise OAuthRefused("access_denied", "the form is not from this site", status=403)
    return await form_of(request)


def routes() -> list[BaseRoute]:
    """Where the forms go."""
    return [
        Route("/oauth/sign-in", page(_sign_in), methods=["POST"]),
        Route("/oauth/sign-in/code", page(_factor), methods=["POST"]),
    ]
