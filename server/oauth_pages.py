"""Where people decide about apps: authorize, consent, the code of a device. Plain forms, no script needed.

A request waits in the database while a person reads; its pages know it by a handle. A form counts only when the page it
comes from was made for this session (a seal) and our own origin sent it. Redirects are 303 and lead only to an address
that the app registered, character for character (O11).
"""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

import i18n
from domain import identity, merchants, partners, webhooks
from domain.core import clock, ids
from domain.core.errors import NotFound
from domain.core.settings import settings
from domain.identity import Acr, Viewer
from domain.partners import URN, Asked, OAuthRefused, Scope, Waiting
from domain.partners.rules import FINANCE
from resolvers.stepup import FRESH_S
from server import oauth_html as html
from server import oauth_sign_in
from server.oauth_requests import asked_from, parameters, redirect_from
from server.oauth_sign_in import ask_who, language_of, lead, own_form, page, person

AGE_MAX_S = 10**9  # no age is asked for
JUST_NOW_S = 60  # max_age=0 means now, and a person needs a moment to read

SCOPE_WORDS = {
    Scope.CATALOGUE_READ: "oauth.scope.catalogue_read",
    Scope.CATALOGUE_WRITE: "oauth.scope.catalogue_write",
    Scope.STOCK_WRITE: "oauth.scope.stock_write",
    Scope.ORDERS_READ: "oauth.scope.orders_read",
    Scope.ORDERS_WRITE: "oauth.scope.orders_write",
    Scope.MONEY_READ: "oauth.scope.money_read",
    Scope.REFUNDS_WRITE: "oauth.scope.refunds_write",
    Scope.CHECKOUT_WRITE: "oauth.scope.checkout_write",
}


async def _authorize(request: Request) -> Response:
    """Take up a request and lead to its page. Errors: OAuthRefused when nobody may be redirected."""
    given = parameters(request.url.query)
    app = await partners.app(given.get("client_id", ""))
    if app is None:
        raise OAuthRefused("invalid_request", "client_id is unknown")
    uri = given.get("request_uri")
    if uri is not None and uri.startswith(URN):
        # What else stands in the address could have been put there by anybody (FAPI 2.0, 5.3.2.2).
        handle, _ = await partners.take_up(app, uri)
        return lead(f"/oauth/consent?r={handle}")
    if uri is not None or app.manifest.requires_par:
        raise OAuthRefused("invalid_request", "this app must push its requests (RFC 9126)")
    redirect_uri = redirect_from(app, given)
    try:
        asked = asked_from(app, given, redirect_uri=redirect_uri)
    except OAuthRefused as error:
        state = given.get("state")
        return _back(redirect_uri, state, error=error.error, error_description=error.why)
    return lead(f"/oauth/consent?r={await partners.open_request(app, asked)}")


def _back(redirect_uri: str, state: str | None, **told: str) -> Response:
    """To the app, with our name on it (RFC 9207)."""
    told["iss"] = settings().public_url
    if state is not None:
        told["state"] = state
    joint = "&" if urlsplit(redirect_uri).query else "?"
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return RedirectResponse(f"{redirect_uri}{joint}{urlencode(told)}", 303, headers)


class Lacking(StrEnum):
    """What a person has yet to prove before they may decide."""

    NOTHING = "nothing"
    SIGN_IN = "sign_in"
    FACTOR = "factor"  # has none, and needs one
    MORE = "more"  # has just proved what these pages can ask for, and it is less


async def _lacking(viewer: Viewer, asked: Asked) -> Lacking:
    """Scopes of money take a second factor; an app may ask for that, or for a fresh sign-in (RFC 9470)."""
    proof, now = await identity.proof(viewer.session_id), clock.now()
    wanted = Acr(asked.acr) if asked.acr else Acr.PASSWORD
    if wanted is Acr.PASSWORD and set(asked.scopes) & FINANCE:
        wanted = Acr.MFA
    age_s = asked.max_age_s
    if age_s is None:
        age_s = AGE_MAX_S if wanted is Acr.PASSWORD else FRESH_S
    if wanted is not Acr.PASSWORD and not proof.has_factor:
        if settings().must_enrol:
            return Lacking.FACTOR
        wanted = Acr.PASSWORD
    if proof.is_enough(wanted, max(age_s, JUST_NOW_S), now):
        return Lacking.NOTHING
    if proof.is_enough(Acr.MFA, JUST_NOW_S, now):
        return Lacking.MORE
    return Lacking.SIGN_IN


async def _consent(request: Request) -> Response:
    handle = request.query_params.get("r", "")
    waits = await _waiting(handle)
    viewer = await person(request)
    if viewer is None:
        return ask_who(request, _page_of(handle))
    if (stopped := await _stopped(request, viewer, waits.asked, _page_of(handle))) is not None:
        return stopped
    fields = {"r": handle, "seal": _seal(viewer, handle)}
    return await _show(request, waits, viewer, "/oauth/consent", fields)


def _page_of(handle: str) -> str:
    return f"/oauth/consent?r={quote(handle, safe='')}"


async def _stopped(request: Request, viewer: Viewer, asked: Asked, to: str) -> Response | None:
    """What a person is shown who has not proved enough to decide about this; None when they have."""
    match await _lacking(viewer, asked):
        case Lacking.SIGN_IN:
            return ask_who(request, to)
        case Lacking.FACTOR:
            return html.said(language_of(request), "oauth.enrol", status=403)
        case Lacking.MORE if asked.redirect_uri:
            error = "unmet_authentication_requirements"
            return _back(
                asked.redirect_uri, asked.state, error=error, error_description="acr_values"
            )
        case Lacking.MORE:
            return html.said(language_of(request), "oauth.enrol", status=403)
    return None


async def _waiting(handle: str) -> Waiting:
    found = await partners.waiting(handle)
    if found is None:
        raise NotFound()
    return found


def _seal(viewer: Viewer, handle: str) -> str:
    return partners.seal_form(*_parts(viewer, handle))


async def _show(
    request: Request, waits: Waiting, viewer: Viewer, action: str, fields: dict[str, str]
) -> Response:
    language, asked = language_of(request), waits.asked
    mine = await merchants.merchants(viewer.roles)
    choice = {
        ids.encode("mer", one): mine[one].name
        for one in viewer.roles
        if one in mine and asked.merchant_id in (None, one)
    }
    if not choice:
        return html.said(language, "oauth.no_merchant", status=403)
    facts = [
        i18n.text("oauth.consent.limit", language, scope=_scope(one.scope, language), most=one.most)
        for one in asked.limits
    ]
    told = await _told(waits)
    if told:
        facts.append(i18n.text("oauth.consent.told", language, hosts=", ".join(told)))
    until = asked.expires_at
    facts.append(
        i18n.text("oauth.consent.until", language, at=until)
        if until is not None
        else i18n.text("oauth.consent.for_good", language)
    )
    facts.append(i18n.text("oauth.consent.as", language, email=viewer.email))
    return html.consent(
        language,
        title=i18n.text("oauth.consent.title", language, app=waits.app.manifest.name),
        facts=facts,
        allowed=[_scope(one, language) for one in asked.scopes],
        merchants=choice,
        action=action,
        fields=fields,
        may_lead_to=asked.redirect_uri or None,
    )


async def _told(waits: Waiting) -> list[str]:
    """The hosts that are told of what happens to orders, by the app's webhooks that these scopes are enough for."""
    found = (await webhooks.of_apps([waits.app.id]))[waits.app.id]
    return sorted(
        {
            urlsplit(one.terms.url).hostname or ""
            for one in found
            if one.scopes <= set(waits.asked.scopes)
        }
    )


def _scope(scope: str, language: str) -> str:
    return i18n.text(SCOPE_WORDS[Scope(scope)], language)


async def _decide(request: Request) -> Response:
    form = await own_form(request)
    handle = form.get("r", "")
    waits = await _waiting(handle)
    viewer = await person(request)
    if viewer is None or not partners.is_form(form.get("seal", ""), *_parts(viewer, handle)):
        return ask_who(request, _page_of(handle))
    asked = waits.asked
    if form.get("word") != "yes":
        await partners.deny(handle)
        return _back(
            asked.redirect_uri, asked.state, error="access_denied", error_description="said no"
        )
    if (stopped := await _stopped(request, viewer, asked, _page_of(handle))) is not None:
        return stopped
    proof = await identity.proof(viewer.session_id)
    code = await partners.allow(
        handle,
        waits,
        merchant_id=ids.decode(form.get("merchant", ""), "mer"),
        account_id=viewer.account_id,
        auth_at=proof.at or clock.now(),
        acr=proof.acr,
    )
    return _back(asked.redirect_uri, asked.state, code=code)


def _parts(viewer: Viewer, handle: str) -> tuple[str, str, str]:
    return "consent", str(viewer.session_id), handle


async def _device(request: Request) -> Response:
    typed = request.query_params.get("user_code", "")
    viewer = await person(request)
    if viewer is None:
        to = "/oauth/device" + (f"?user_code={quote(typed[:40], safe='')}" if typed else "")
        return ask_who(request, to)
    if not typed:
        return html.enter_code(language_of(request))
    waits = await _device_of(viewer, typed)
    if waits is None:
        language = language_of(request)
        return html.enter_code(language, problem=i18n.text("oauth.device.unknown", language))
    to = f"/oauth/device?user_code={quote(typed[:40], safe='')}"
    if (stopped := await _stopped(request, viewer, waits.asked, to)) is not None:
        return stopped
    fields = {"user_code": typed, "seal": _seal(viewer, typed)}
    return await _show(request, waits, viewer, "/oauth/device", fields)


async def _device_of(viewer: Viewer, typed: str) -> Waiting | None:
    try:
        await identity.try_device_code(viewer.account_id)
    except identity.TooManyTries:
        raise OAuthRefused("slow_down", "too many codes: wait a while", status=429) from None
    return await partners.device(typed)


async def _decide_device(request: Request) -> Response:
    form = await own_form(request)
    typed = form.get("user_code", "")
    viewer = await person(request)
    if viewer is None or not partners.is_form(form.get("seal", ""), *_parts(viewer, typed)):
        return ask_who(request, "/oauth/device")
    waits = await _device_of(viewer, typed)
    if waits is None:
        raise NotFound()
    if form.get("word") != "yes":
        await partners.deny_device(typed)
        return html.said(language_of(request), "oauth.device.denied")
    if (stopped := await _stopped(request, viewer, waits.asked, "/oauth/device")) is not None:
        return stopped
    proof = await identity.proof(viewer.session_id)
    await partners.allow_device(
        typed,
        waits,
        merchant_id=ids.decode(form.get("merchant", ""), "mer"),
        account_id=viewer.account_id,
        auth_at=proof.at or clock.now(),
        acr=proof.acr,
    )
    return html.said(language_of(request), "oauth.device.done")


def routes() -> list[BaseRoute]:
    """The pages for people."""
    return [
        Route("/oauth/authorize", page(_authorize), methods=["GET"]),
        Route("/oauth/consent", page(_consent), methods=["GET"]),
        Route("/oauth/consent", page(_decide), methods=["POST"]),
        *oauth_sign_in.routes(),
        Route("/oauth/device", page(_device), methods=["GET"]),
        Route("/oauth/device", page(_decide_device), methods=["POST"]),
    ]
