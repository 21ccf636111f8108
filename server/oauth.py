"""OAuth for partner apps: token, pushed requests, revocation, introspection, devices, what we are able to do.

Rules and rows are in `domain/partners`; this is HTTP. Pages for people are in `oauth_pages.py`. Sources: OAuth 2.1, RFC
7009, 7662, 8414, 8628, 9126, 9449, 9728, FAPI 2.0.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from domain import partners
from domain.core.errors import Unavailable
from domain.core.settings import Settings, settings
from domain.identity import Acr
from domain.partners import AuthMethod, GrantType, Issued, OAuthRefused, Scope
from domain.partners.rules import (
    ALGORITHMS,
    DETAILS_TYPE,
    DEVICE_INTERVAL_S,
    DEVICE_S,
    REQUEST_S,
)
from server import oauth_limits, oauth_registration
from server.oauth_requests import (
    Client,
    Form,
    answer,
    asked_from,
    client_of,
    device_from,
    form_of,
    redirect_from,
    refused,
)

Act = Callable[[Request, Client, Form], Awaitable[Response]]


def _endpoint(act: Act) -> Callable[[Request], Awaitable[Response]]:
    """One POST endpoint for apps: bounded, authenticated, refused in the RFC's words."""

    async def serve(request: Request) -> Response:
        try:
            await oauth_limits.calls.take(request)
            form = await form_of(request)
            return await act(request, await client_of(request, form), form)
        except OAuthRefused as error:
            return refused(error, request)
        except Unavailable:
            away = OAuthRefused("temporarily_unavailable", "try again in a moment", status=503)
            return refused(away, request)
        except ClientDisconnect:
            return Response(status_code=400)

    return serve


async def _token(request: Request, client: Client, form: Form) -> Response:
    kind = form.get("grant_type", "")
    if kind not in set(GrantType):
        raise OAuthRefused("unsupported_grant_type", "this grant_type is not served")
    if kind not in client.app.manifest.grant_types:
        raise OAuthRefused("unauthorized_client", "the app did not register this grant_type")
    issued = await _grants[GrantType(kind)](client, form)
    return answer(request, issued.body())


async def _of_code(client: Client, form: Form) -> Issued:
    return await partners.exchange(
        client.app,
        _needs(form, "code"),
        verifier=_needs(form, "code_verifier"),
        redirect_uri=form.get("redirect_uri"),
        jkt=client.jkt,
    )


async def _of_refresh(client: Client, form: Form) -> Issued:
    text = _needs(form, "refresh_token")
    return await partners.refresh(client.app, text, scope=form.get("scope"), jkt=client.jkt)


async def _of_client(client: Client, form: Form) -> Issued:
    return await partners.as_itself(client.app, scope=form.get("scope"), jkt=client.jkt)


async def _of_device(client: Client, form: Form) -> Issued:
    return await partners.of_device(client.app, _needs(form, "device_code"), jkt=client.jkt)


_grants: dict[GrantType, Callable[[Client, Form], Awaitable[Issued]]] = {
    GrantType.CODE: _of_code,
    GrantType.REFRESH: _of_refresh,
    GrantType.CLIENT: _of_client,
    GrantType.DEVICE: _of_device,
}


def _needs(form: Form, name: str) -> str:
    if name not in form:
        raise OAuthRefused("invalid_request", f"{name} is required")
    return form[name]


async def _par(request: Request, client: Client, form: Form) -> Response:
    if "request_uri" in form:
        raise OAuthRefused("invalid_request", "request_uri cannot be pushed")
    redirect_uri = redirect_from(client.app, form)
    asked = asked_from(client.app, form, redirect_uri=redirect_uri, jkt=client.jkt)
    made = {"request_uri": await partners.push(client.app, asked), "expires_in": REQUEST_S}
    return answer(request, made, status=201)


async def _revoke(request: Request, client: Client, form: Form) -> Response:
    await partners.revoke_token(client.app, _needs(form, "token"))
    return answer(request, None)


async def _introspect(request: Request, client: Client, form: Form) -> Response:
    if client.app.is_public:
        raise OAuthRefused("invalid_client", "a public app cannot introspect", status=401)
    return answer(request, await partners.introspected(client.app, _needs(form, "token")))


async def _device(request: Request, client: Client, form: Form) -> Response:
    if GrantType.DEVICE not in client.app.manifest.grant_types:
        raise OAuthRefused("unauthorized_client", "the app did not register this grant_type")
    made = await partners.start_device(client.app, device_from(client.app, form))
    page = f"{settings().public_url}/oauth/device"
    told = {
        "device_code": made.device_code,
        "user_code": made.user_code,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={made.user_code}",
        "expires_in": DEVICE_S,
        "interval": DEVICE_INTERVAL_S,
    }
    return answer(request, told)


def metadata(found: Settings) -> dict[str, Any]:
    """What we are able to do (RFC 8414)."""
    base = found.public_url
    methods = [str(one) for one in AuthMethod]
    told: dict[str, Any] = {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "pushed_authorization_request_endpoint": f"{base}/oauth/par",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "introspection_endpoint": f"{base}/oauth/introspect",
        "device_authorization_endpoint": f"{base}/oauth/device_authorization",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "service_documentation": f"{base}/console",
        "scopes_supported": [str(one) for one in Scope],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [str(one) for one in GrantType],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "require_pushed_authorization_requests": False,
        "request_parameter_supported": False,
        "authorization_details_types_supported": [DETAILS_TYPE],
        "acr_values_supported": [str(one) for one in Acr],
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
    }
    for endpoint in ("token", "revocation"):
        told[f"{endpoint}_endpoint_auth_methods_supported"] = methods
        told[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = list(ALGORITHMS)
    told["introspection_endpoint_auth_methods_supported"] = methods[1:]
    told["introspection_endpoint_auth_signing_alg_values_supported"] = list(ALGORITHMS)
    if found.app_registration:
        told["registration_endpoint"] = f"{base}/oauth/register"
    return told


def resource(found: Settings) -> dict[str, Any]:
    """What protects our API (RFC 9728)."""
    return {
        "resource": f"{found.public_url}/graphql",
        "authorization_servers": [found.public_url],
        "jwks_uri": f"{found.public_url}/.well-known/jwks.json",
        "scopes_supported": [str(one) for one in Scope],
        "bearer_methods_supported": ["header"],
        "authorization_details_types_supported": [DETAILS_TYPE],
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
    }


def _document(
    make: Callable[[Settings], dict[str, Any]],
) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return answer(request, make(settings()), headers={"Cache-Control": "public, max-age=300"})

    return serve


def routes(found: Settings) -> list[BaseRoute]:
    """The endpoints for apps."""
    posts = {
        "/oauth/token": _token,
        "/oauth/par": _par,
        "/oauth/revoke": _revoke,
        "/oauth/introspect": _introspect,
        "/oauth/device_authorization": _device,
    }
    documents = {
        "/.well-known/oauth-authorization-server": metadata,
        "/.well-known/oauth-protected-resource": resource,
        "/.well-known/oauth-protected-resource/graphql": resource,
        "/.well-known/jwks.json": lambda _: partners.own_keys(),
    }
    made: list[BaseRoute] = [
        *(Route(path, _endpoint(act), methods=["POST"]) for path, act in posts.items()),
        *(Route(path, _document(make), methods=["GET"]) for path, make in documents.items()),
    ]
    if found.app_registration:
        made += oauth_registration.routes()
    return made
