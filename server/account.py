"""Where the links of mails to accounts lead: `/account/verify`, `reset`, `invitation`, `email`, `email_undo`.

Plain forms without a script: they work in every mail program's browser. A GET changes nothing, for mail scanners
follow links; what a link does, its form does, once. The token is good for a while only, so it may be in the address;
no answer is kept, and no other site learns it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import i18n
from domain import identity
from domain.core import audit
from domain.core.errors import DomainError, FieldInvalid
from domain.core.settings import settings
from domain.identity import CredentialsInvalid, From, LinkInvalid, TooManyTries
from resolvers.context import DEVICE_COOKIE, SESSION_COOKIE
from resolvers.people import DEVICE_COOKIE_S
from server.account_asking import HOME
from server.account_html import document, go
from server.graphql.request import set_cookie
from server.pages import LOST, language_of, site

BODY_MAX = 4_096
_FORM = "application/x-www-form-urlencoded"
_STATUS = {"CREDENTIALS_INVALID": 400, "FIELD_INVALID": 400, "THROTTLED": 429, "UNAVAILABLE": 503}


class Refused(Exception):
    """The form did not come from our own page, or is none."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a form brought."""

    request: Request
    token: str
    password: str

    @property
    def address(self) -> str | None:
        """The client's address, behind listed proxies only."""
        return self.request.client.host if self.request.client else None

    @property
    def is_ours(self) -> bool:
        """Whether the browser vouches that our own page sent it: only then it may be signed in by it."""
        return self.request.headers.get("sec-fetch-site") == "same-origin"


Cookies = list[tuple[str, str, int]]


async def _verify(sent: Sent) -> Cookies:
    where = From(
        sent.address,
        sent.request.headers.get("user-agent"),
    )
    opened = await identity.verify_email(sent.token, sent.password, where)
    if not sent.is_ours:
        await identity.sign_out(opened.token)
        return []
    lasts_s = settings().session_days * 86_400
    return [
        (SESSION_COOKIE, opened.token, lasts_s),
        (DEVICE_COOKIE, opened.device, DEVICE_COOKIE_S),
    ]


async def _reset(sent: Sent) -> Cookies:
    device = await identity.reset_password(sent.token, sent.password, address=sent.address)
    return [(DEVICE_COOKIE, device, DEVICE_COOKIE_S)] if sent.is_ours else []


async def _accept(sent: Sent) -> Cookies:
    await identity.accept_invitation(
        sent.token,
        sent.password or None,
        locale=language_of(sent.request),
        address=sent.address,
        request_id=None,
    )
    return []


async def _email(sent: Sent) -> Cookies:
    await identity.confirm_email(sent.token, sent.password, address=sent.address)
    return []


async def _email_undo(sent: Sent) -> Cookies:
    _, device = await identity.undo_email(sent.token, sent.password, address=sent.address)
    return [(DEVICE_COOKIE, device, DEVICE_COOKIE_S)] if sent.is_ours else []


_DO: Mapping[str, Callable[[Sent], Awaitable[Cookies]]] = {
    "verify": _verify,
    "reset": _reset,
    "invitation": _accept,
    "email": _email,
    "email_undo": _email_undo,
}


def routes() -> list[Route]:
    """One page for each kind of link."""
    return [
        Route(f"/account/{kind}", _endpoint(kind), methods=["GET", "POST"], name=f"account.{kind}")
        for kind in _DO
    ]


def _endpoint(kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        language = language_of(request)
        try:
            if request.method == "POST":
                return await _post(request, kind, language)
            token = request.query_params.get("token", "")
            return await _form(kind, token, language)
        except LinkInvalid:
            on = go(HOME, i18n.text("people.on", language))
            return _page(language, "over.title", _words(language, "over") + on, status=404)
        except Refused:
            return _page(language, "over.title", _words(language, "over"), status=403)
        except LOST:
            text = _notice(i18n.text("UNAVAILABLE", language))
            return _page(language, f"{kind}.title", text, status=503)

    return answer


async def _post(request: Request, kind: str, language: str) -> Response:
    sent = await _read(request)
    audit.comes_from(sent.address)
    try:
        cookies = await _DO[kind](sent)
    except (CredentialsInvalid, FieldInvalid, TooManyTries) as refused:
        rule = site().words[language]["account.password.rule"]
        said = rule if isinstance(refused, FieldInvalid) else i18n.text(refused.code, language)
        return await _form(kind, sent.token, language, said=said, refused=refused)
    on = go(HOME, i18n.text("people.on", language))
    made = _page(language, f"{kind}.done.title", _words(language, f"{kind}.done") + on)
    for cookie in cookies:
        text = set_cookie(*cookie, is_secure=not settings().in_development)
        made.headers.append("set-cookie", text.decode("latin-1"))
    return made


async def _read(request: Request) -> Sent:
    """The form. Errors: Refused."""
    # Absent in old browsers; nothing here hangs on a cookie, so that is no risk.
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Refused
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_MAX:
                raise Refused
        given = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=8))
    except (ClientDisconnect, ValueError):
        raise Refused from None
    return Sent(request, given.get("token", ""), given.get("password", ""))


async def _form(
    kind: str, token: str, language: str, *, said: str = "", refused: DomainError | None = None
) -> Response:
    """The form of a link that can still be used. Errors: LinkInvalid."""
    email = await identity.look_at(token, kind)
    if email is None:
        raise LinkInvalid()
    words = site().words[language]
    why, needs_password = f"account.{kind}.why", True
    if kind == "invitation":
        needs_password = bool(await identity.needs_password(token))
        why = "account.invitation.new" if needs_password else why
    is_new = kind not in ("verify", "email")
    fields = _field("email", words["account.email"], f'type="email" value="{escape(email)}"'
                    ' autocomplete="username" readonly')  # fmt: skip
    if needs_password:
        label = words["account.password.new" if is_new else "account.password"]
        rule = words["account.password.rule"] if is_new else ""
        least = (
            'minlength="10" autocomplete="new-password"'
            if is_new
            else 'autocomplete="current-password"'
        )
        fields += _field(
            "password", label, f'type="password" required maxlength="256" {least}', rule
        )
    body = (
        f'<p class="soft">{escape(words[why])}</p>'
        f'<form method="post" action="/account/{kind}">'
        f'<input type="hidden" name="token" value="{escape(token)}">{fields}'
        f"{_notice(said) if said else ''}"
        f'<button class="go">{escape(words[f"account.{kind}.go"])}</button></form>'
    )
    made = _page(language, f"{kind}.title", body, status=_STATUS[refused.code] if refused else 200)
    if refused is not None and "retry_after" in refused.facts:
        made.headers["Retry-After"] = str(refused.facts["retry_after"])
    return made


def _field(name: str, label: str, attributes: str, hint: str = "") -> str:
    small = f'<small class="soft">{escape(hint)}</small>' if hint else ""
    return (
        f'<div class="field"><label for="{name}">{escape(label)}</label>'
        f'<input id="{name}" name="{name}" {attributes}>{small}</div>'
    )


def _words(language: str, key: str) -> str:
    return f'<p class="soft">{escape(site().words[language][f"account.{key}"])}</p>'


def _notice(text: str) -> str:
    return f'<p class="notice" role="alert">{escape(text)}</p>'


def _page(language: str, title: str, body: str, *, status: int = 200) -> HTMLResponse:
    """A page on which nothing runs; `body` is markup."""
    text = site().words[language][f"account.{title}"]
    card = f'<div class="card center narrow"><h1>{escape(text)}</h1>{body}</div>'
    return document(language, text, card, status=status)
