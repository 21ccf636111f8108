"""What apps send to the OAuth endpoints: bounded forms, who the app is, what it asks a person for.

Every parameter at most once; what is not understood and would matter is refused, never left out.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64decode
from binascii import Error as NotBase64
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_plus

import orjson
from starlette.requests import Request
from starlette.responses import Response

from domain import partners
from domain.core import clock
from domain.core.settings import settings
from domain.identity import Acr
from domain.partners import App, Asked, AuthMethod, OAuthRefused, Proven
from domain.partners.rules import (
    check_challenge,
    check_response_type,
    check_state,
    redirect_of,
    scopes_of,
)

FORM_MAX_BYTES = 16_384
FIELDS_MAX = 30
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_THUMBPRINT = 43
Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls an endpoint: the app, and the thumbprint of the key it has proven, when it sent a DPoP proof."""

    app: App
    jkt: str | None


async def form_of(request: Request) -> dict[str, str]:
    """The parameters of a POST. Errors: OAuthRefused: not a form, too large, one twice (RFC 6749, 3.2)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded" or "content-encoding" in request.headers:
        raise OAuthRefused("invalid_request", "send application/x-www-form-urlencoded", status=415)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > FORM_MAX_BYTES:
            raise OAuthRefused("invalid_request", "the form is too large", status=413)
    return parameters(body.decode("latin-1"))


def parameters(text: str) -> dict[str, str]:
    """The parameters of a form or a query. Errors: OAuthRefused for one that comes twice, or too many."""
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise OAuthRefused("invalid_request", "the parameters cannot be read") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise OAuthRefused("invalid_request", "a parameter is given twice")
    if any("\x00" in value for value in found.values()):
        raise OAuthRefused("invalid_request", "a parameter holds a NUL character")
    return {name: value for name, value in found.items() if value}


async def client_of(request: Request, form: Form) -> Client:
    """The app that calls, proven by what it registered; its proof and its assertion count once.

    Errors: OAuthRefused: `invalid_client` (401), `invalid_dpop_proof`, `use_dpop_nonce`.
    """
    proof = _dpop(request)
    app, assertion = await _authenticated(request, form)
    # Only what is right in all else is used up: a proof without our nonce costs the app no assertion.
    if assertion is not None:
        await partners.prove_once(f"assertion {app.client_id}", assertion)
    if proof is not None:
        await partners.prove_once("dpop", proof)
    return Client(app, proof.jkt if proof else None)


def _dpop(request: Request) -> Proven | None:
    sent = request.headers.getlist("dpop")
    if not sent:
        return None
    if len(sent) > 1:
        raise OAuthRefused("invalid_dpop_proof", "send one proof")
    now = clock.now()
    return partners.dpop(
        sent[0],
        method=request.method,
        url=settings().public_url + request.url.path,
        nonces=partners.nonces(now),
        now=now,
    )


async def _authenticated(request: Request, form: Form) -> tuple[App, Proven | None]:
    basic = request.headers.get("authorization")
    claimed = form.get("client_id")
    text = form.get("client_assertion")
    if (basic is not None) + (text is not None) + ("client_secret" in form) > 1:
        raise OAuthRefused("invalid_request", "use one way to authenticate")
    if basic is not None:
        name, secret = _basic(basic)
        app = await _app(name, AuthMethod.SECRET)
        if claimed not in (None, name) or not partners.is_secret(app, secret):
            raise _unknown()
        return app, None
    if text is not None:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise OAuthRefused("invalid_request", "client_assertion_type is jwt-bearer")
        app = await _app(claimed or _subject(text), AuthMethod.KEY)
        assert app.manifest.jwks is not None
        return app, partners.assertion(
            text,
            app.manifest.jwks,
            client_id=app.client_id,
            issuer=settings().public_url,
            now=clock.now(),
        )
    return await _app(claimed or "", AuthMethod.NONE), None


async def _app(client_id: str, method: AuthMethod) -> App:
    app = await partners.app(client_id)
    if app is None or app.manifest.auth_method is not method:
        raise _unknown()
    return app


def _unknown() -> OAuthRefused:
    # One answer for every reason: what exists is nobody's business.
    return OAuthRefused("invalid_client", "unknown app, or not proven as registered", status=401)


def _basic(header: str) -> tuple[str, str]:
    scheme, _, text = header.partition(" ")
    try:
        name, colon, secret = b64decode(text, validate=True).decode("ascii").partition(":")
    except (NotBase64, ValueError):
        raise _unknown() from None
    if scheme.lower() != "basic" or not colon:
        raise _unknown()
    return unquote_plus(name), unquote_plus(secret)


def _subject(assertion: str) -> str:
    """Whom an assertion speaks for; believed only once its signature holds."""
    try:
        middle = assertion.split(".")[1]
        claims = orjson.loads(urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        return str(claims["sub"])[:64]
    except (IndexError, ValueError, KeyError, TypeError):
        return ""


def redirect_from(app: App, given: Form) -> str:
    """Where this request wants the browser sent. Errors: OAuthRefused: then nobody is sent anywhere (O11)."""
    check_response_type(given.get("response_type"))
    return redirect_of(given.get("redirect_uri"), app.manifest.redirect_uris)


def asked_from(app: App, given: Form, *, redirect_uri: str, jkt: str | None = None) -> Asked:
    """What an authorization request asks for, whether pushed or come with the browser. Errors: OAuthRefused."""
    for name in ("request", "registration"):
        if name in given:
            raise OAuthRefused(f"{name}_not_supported", f"{name} is not served")
    if given.get("response_mode", "query") != "query":
        raise OAuthRefused("invalid_request", "only response_mode=query is served")
    if partners.GrantType.CODE not in app.manifest.grant_types:
        raise OAuthRefused("unauthorized_client", "this app takes no codes")
    bound = given.get("dpop_jkt")
    if bound is not None and (len(bound) != _THUMBPRINT or jkt not in (None, bound)):
        raise OAuthRefused("invalid_request", "dpop_jkt is not the proof's key")
    return _wanted(
        app,
        given,
        redirect_uri=redirect_uri,
        challenge=check_challenge(given.get("code_challenge"), given.get("code_challenge_method")),
        jkt=jkt or bound,
    )


def device_from(app: App, given: Form) -> Asked:
    """What a device asks for. Errors: OAuthRefused."""
    return _wanted(app, given, redirect_uri="", challenge="", jkt=None)


def _wanted(app: App, given: Form, *, redirect_uri: str, challenge: str, jkt: str | None) -> Asked:
    told = partners.read_details(given.get("authorization_details"), now=clock.now())
    registered = app.manifest.scopes
    scopes = scopes_of(given.get("scope"), registered)
    if told.actions is not None:
        within = scopes if "scope" in given else registered
        scopes = scopes_of(" ".join(told.actions), within)
    return Asked(
        scopes,
        redirect_uri,
        challenge,
        check_state(given.get("state")),
        jkt,
        told.merchant_id,
        told.limits,
        told.expires_at,
        _seconds(given.get("max_age")),
        _acr(given.get("acr_values")),
    )


def _acr(text: str | None) -> str | None:
    """The weakest of the levels that will do (RFC 9470, 4). Errors: OAuthRefused when we know none of them."""
    wanted = text.split(" ") if text else []
    known = [str(level) for level in Acr if level in wanted]
    if wanted and not known:
        raise OAuthRefused("unmet_authentication_requirements", "none of acr_values is known")
    return known[0] if known else None


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 8:
        raise OAuthRefused("invalid_request", "max_age is a number of seconds")
    return int(text)


def refused(error: OAuthRefused, request: Request) -> Response:
    """A refusal as the RFCs write it."""
    headers = {}
    if error.status == 401 and "authorization" in request.headers:
        headers["WWW-Authenticate"] = 'Basic realm="kami"'
    body = {"error": error.error, "error_description": error.why}
    return answer(request, body, status=error.status, headers=headers)


def answer(
    request: Request,
    body: object,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """JSON that nobody keeps; with the next nonce for who uses DPoP."""
    sent = {"Cache-Control": "no-store", "Pragma": "no-cache", **(headers or {})}
    if "dpop" in request.headers:
        sent["DPoP-Nonce"] = partners.nonces(clock.now())[0]
    if body is None:
        return Response(status_code=status, headers=sent)
    return Response(orjson.dumps(body), status, sent, media_type="application/json")
