"""What the pages of accounts have in common: who sends a form, GraphQL asked in this process, the reader's language.

A page asks for everything by registered documents (`web/documents/account`), as the browser that sent the request:
rights, budgets, step-up and words are those of every other client. A form counts only when the browser vouches that a
page of ours sent it, so no other site can act with a visitor's cookie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

import i18n
from domain.core.settings import settings
from domain.identity import Unauthenticated
from resolvers.context import SESSION_COOKIE
from server.graphql import request as wire
from server.graphql.door import Door
from server.graphql.http import context_of
from server.graphql.persisted import digest
from server.graphql.request import Asked
from server.pages import site

BODY_MAX = 8_192
LANGUAGE_COOKIE = "kami_language"
LANGUAGE_S = 365 * 86_400
HOME, SIGN_IN, SECURITY, PROOF = (
    "/account",
    "/account/sign-in",
    "/account/security",
    "/account/proof",
)
_FORM = "application/x-www-form-urlencoded"
# Where somebody may be sent on to: pages of ours, never an address that a link made up.
_OWN = re.compile(r"/(account|orders|pay|s)(/[A-Za-z0-9_-]{1,80}){0,3}", re.ASCII)


class Foreign(Exception):
    """The form did not come from a page of ours, or is none."""


class Lost(Exception):
    """There is nothing of that name for who asks."""


@dataclass(slots=True)
class Refusal(Exception):
    """GraphQL refused: `message` is for people, in their language."""

    code: str
    message: str
    retry_after: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Visit:
    """One request for a page: its form, its reader's language, and the cookies that its answer sets."""

    request: Request
    language: str
    form: dict[str, str] = field(default_factory=dict)
    cookies: list[tuple[str, str, int]] = field(default_factory=list)

    def word(self, key: str, **facts: Any) -> str:
        """A text in the reader's language."""
        return i18n.text(key, self.language, **facts)

    @property
    def is_signed_in(self) -> bool:
        """Whether the browser sent a session; whether it is good, GraphQL says."""
        return bool(self.request.cookies.get(SESSION_COOKIE))

    async def ask(self, name: str, **variables: Any) -> dict[str, Any]:
        """The `data` of a registered document. Errors: Refusal."""
        door: Door = self.request.app.state.door
        headers = wire.headers(self.request.scope["headers"])
        context = context_of(self.request.scope, headers)
        context.accept_language = self.language
        context.cookies = self.cookies
        token = wire.cookie_token(headers)
        context.came_by_cookie = token is not None
        try:
            await door.admit(context, token)
        except Unauthenticated:
            context.keep_cookie(SESSION_COOKIE, "", 0)
        document_id = digest(site().documents[f"account/{name}"])
        answer = await door.answer(
            Asked(None, document_id=document_id, variables=variables), context
        )
        told = orjson.loads(answer.body)
        if told.get("errors"):
            error = told["errors"][0]
            found = error["extensions"]
            raise Refusal(found["code"], error["message"], found.get("retryAfter"), found)
        data: dict[str, Any] = told["data"]
        return data

    async def act(self, name: str, **variables: Any) -> dict[str, Any]:
        """What the mutation of a registered document gave. Errors: Refusal, for problems too."""
        result: dict[str, Any] = (await self.ask(name, **variables))["result"]
        if "code" in result and "signInToken" not in result:
            faulty = result.get("problems") or [result]
            raise Refusal(result["code"], faulty[0]["message"], result.get("retryAfter"), result)
        return result


def lead(path: str) -> Response:
    """Go on at another page of ours, by GET."""
    return RedirectResponse(
        path, 303, {"Cache-Control": "no-store", "Referrer-Policy": "same-origin"}
    )


def finish(visit: Visit, made: Response) -> Response:
    """Set the cookies of an answer."""
    for cookie in visit.cookies:
        text = wire.set_cookie(*cookie, is_secure=not settings().in_development)
        made.headers.append("set-cookie", text.decode("latin-1"))
    return made


def own(path: str | None) -> str:
    """A page of ours that somebody asked to be led to; the account's when it is none."""
    return path if path is not None and _OWN.fullmatch(path) else HOME


def language_of(request: Request) -> str:
    """The language chosen on these pages, else the one that the browser likes best."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in i18n.LANGUAGES:
        return chosen
    return i18n.negotiate(request.headers.get("accept-language")) or i18n.LANGUAGES[0]


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that a page of ours sent. Errors: Foreign."""
    if not _is_ours(request):
        raise Foreign
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Foreign
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise Foreign
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=16))
    except ValueError:
        raise Foreign from None


def _is_ours(request: Request) -> bool:
    """Whether the browser says that the form stood on a page of this origin; one that says nothing is not believed."""
    site_said = request.headers.get("sec-fetch-site")
    if site_said is not None:
        return site_said == "same-origin"
    ours = urlsplit(settings().public_url)
    return request.headers.get("origin") == f"{ours.scheme}://{ours.netloc}"
