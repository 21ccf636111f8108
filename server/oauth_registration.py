"""Apps that register themselves, where the operator allows it (`KAMI_APP_REGISTRATION`): RFC 7591, managed by RFC 7592.

They never get scopes that move money: those take an app that a merchant's developers answer for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from domain import partners
from domain.core.errors import InputInvalid, Unavailable
from domain.core.settings import settings
from domain.partners import App, AuthMethod, GrantType, Manifest, OAuthRefused
from domain.partners.rules import FINANCE, Scope
from server import oauth_limits
from server.graphql.request import bearer
from server.oauth_requests import answer, refused

BODY_MAX_BYTES = 16_384

# RFC 7591 names → whether a list; what is not named here is left out of the answer, as its section 2 wants.
_TEXTS = ("client_name", "client_uri", "token_endpoint_auth_method", "scope")
_LISTS = ("redirect_uris", "grant_types", "response_types")
_REFUSED_AS = {"redirectUris": "invalid_redirect_uri"}


def _served(
    act: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        try:
            return await act(request)
        except OAuthRefused as error:
            return refused(error, request)
        except InputInvalid as error:
            return refused(_fault(error), request)
        except Unavailable:
            away = OAuthRefused("temporarily_unavailable", "try again in a moment", status=503)
            return refused(away, request)
        except ClientDisconnect:
            return Response(status_code=400)

    return serve


def _fault(error: InputInvalid) -> OAuthRefused:
    first = error.problems[0]
    name = first.path[1] if len(first.path) > 1 else ""
    reason = first.facts.get("reason", first.code)
    return OAuthRefused(_REFUSED_AS.get(name, "invalid_client_metadata"), f"{name}: {reason}")


async def _create(request: Request) -> Response:
    await oauth_limits.registrations.take(request)
    app, secret, key = await partners.register_self(await _manifest(request))
    return answer(request, _told(app, secret, key), status=201)


async def _managed(request: Request) -> App:
    """The app of this address, for who holds its registration token. Errors: OAuthRefused (401)."""
    app = await partners.app(request.path_params["client_id"])
    token = bearer(request.headers.get("authorization")) or ""
    if app is None or not partners.is_registration(app, token):
        raise OAuthRefused("invalid_token", "not this app's registration token", status=401)
    return app


async def _read(request: Request) -> Response:
    return answer(request, _told(await _managed(request)))


async def _replace(request: Request) -> Response:
    app = await _managed(request)
    manifest = await _manifest(request, app)
    return answer(request, _told(await partners.change_self(app, manifest)))


async def _delete(request: Request) -> Response:
    await partners.delete_self(await _managed(request))
    return answer(request, None, status=204)


async def _manifest(request: Request, known: App | None = None) -> Manifest:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_MAX_BYTES:
            raise OAuthRefused("invalid_client_metadata", "too large", status=413)
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise OAuthRefused("invalid_client_metadata", "send a JSON object")
    _check_types(given, known)
    scopes = tuple((given.get("scope") or "catalogue:read orders:read").split())
    if set(scopes) & FINANCE or set(scopes) - set(Scope):
        raise OAuthRefused(
            "invalid_client_metadata", "scope: not for apps that register themselves"
        )
    method = given.get("token_endpoint_auth_method", AuthMethod.SECRET)
    if method not in set(AuthMethod):
        raise OAuthRefused("invalid_client_metadata", "token_endpoint_auth_method: not served")
    if known is not None and method != known.manifest.auth_method:
        raise OAuthRefused("invalid_client_metadata", "token_endpoint_auth_method: is for good")
    return Manifest(
        name=given.get("client_name") or "App",
        redirect_uris=tuple(given.get("redirect_uris", ())),
        scopes=scopes,
        grant_types=tuple(given.get("grant_types", (GrantType.CODE, GrantType.REFRESH))),
        auth_method=AuthMethod(method),
        jwks=given.get("jwks"),
        requires_par=given.get("require_pushed_authorization_requests", False),
        dpop_bound=given.get("dpop_bound_access_tokens", False),
        homepage=given.get("client_uri"),
    )


def _check_types(given: dict[str, Any], known: App | None) -> None:
    wrong = [name for name in _TEXTS if not isinstance(given.get(name, ""), str)]
    wrong += [
        name
        for name in _LISTS
        if not isinstance(given.get(name, []), list)
        or not all(isinstance(one, str) for one in given.get(name, []))
    ]
    wrong += [
        name
        for name in ("require_pushed_authorization_requests", "dpop_bound_access_tokens")
        if not isinstance(given.get(name, False), bool)
    ]
    if set(given.get("response_types", ["code"])) - {"code"}:
        wrong.append("response_types")
    wrong += [name for name in ("jwks_uri", "sector_identifier_uri") if name in given]
    if "jwks" in given and not isinstance(given["jwks"], dict):
        wrong.append("jwks")
    if GrantType.CLIENT in given.get("grant_types", []):
        wrong.append("grant_types")  # nobody of a merchant answers for what it does by itself
    if known is not None and given.get("client_id") != known.client_id:
        wrong.append("client_id")
    if wrong:
        raise OAuthRefused("invalid_client_metadata", f"{wrong[0]}: not of its type, or not served")


def _told(app: App, secret: str | None = None, key: str | None = None) -> dict[str, Any]:
    found = app.manifest
    told: dict[str, Any] = {
        "client_id": app.client_id,
        "client_id_issued_at": int(app.created_at.timestamp()),
        "client_name": found.name,
        "redirect_uris": list(found.redirect_uris),
        "grant_types": list(found.grant_types),
        "response_types": ["code"] if GrantType.CODE in found.grant_types else [],
        "scope": " ".join(found.scopes),
        "token_endpoint_auth_method": str(found.auth_method),
        "require_pushed_authorization_requests": found.requires_par,
        "dpop_bound_access_tokens": found.dpop_bound,
        "registration_client_uri": f"{settings().public_url}/oauth/register/{app.client_id}",
    }
    if found.homepage is not None:
        told["client_uri"] = found.homepage
    if found.jwks is not None:
        told["jwks"] = found.jwks
    if secret is not None:
        told |= {"client_secret": secret, "client_secret_expires_at": 0}
    if key is not None:
        told["registration_access_token"] = key
    return told


def routes() -> list[BaseRoute]:
    """`POST /oauth/register`, and the address of each app that did."""
    one = "/oauth/register/{client_id}"
    return [
        Route("/oauth/register", _served(_create), methods=["POST"]),
        Route(one, _served(_read), methods=["GET"]),
        Route(one, _served(_replace), methods=["PUT"]),
        Route(one, _served(_delete), methods=["DELETE"]),
    ]
