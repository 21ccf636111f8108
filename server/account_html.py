"""The HTML of the pages of accounts. Everything that is not a literal here is escaped where it goes in."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import quote

from starlette.responses import HTMLResponse

import i18n
from domain.core.money import Money
from server.account_asking import HOME, SECURITY, Visit
from server.pages import MARK, headers, site

_NAMES = {"en": "English", "zh": "中文", "ja": "日本語", "es": "Español"}
METHODS, SIGN_OUT = "/account/methods", "/account/sign-out"
# What scripts say is in the page already; they know only these documents.
_SCRIPTED = (
    "start-passkey",
    "passkey-sign-in",
    "complete",
    "passkey-verify",
    "passkey-start",
    "passkey-finish",
)


def page(
    visit: Visit,
    title: str,
    body: str,
    *,
    status: int = 200,
    is_wide: bool = False,
    scripted: bool = False,
) -> HTMLResponse:
    """One page of an account; `body` is markup. `scripted` pages work with passkeys."""
    nav = _nav(visit) if visit.is_signed_in else ""
    inner = f"<h1>{escape(title)}</h1>{body}"
    frame = "stack" if is_wide else "card center narrow"
    return document(
        visit.language,
        title,
        f'<div class="{frame}">{inner}</div>',
        nav=nav,
        foot=_languages(visit),
        status=status,
        scripted=scripted,
        referrer="same-origin",
    )


def document(
    language: str,
    title: str,
    main: str,
    *,
    nav: str = "",
    foot: str = "",
    status: int = 200,
    scripted: bool = False,
    referrer: str = "no-referrer",
    targets: str = "'self'",
) -> HTMLResponse:
    """The shell around a page, with a fresh nonce; nothing runs in it but our own file, where it is asked for.

    `referrer`: with "no-referrer" older browsers say `Origin: null` of our own forms. `targets` is where forms go.
    """
    found, nonce = site(), secrets.token_urlsafe(16)
    base = f"/assets/{found.version}"
    script = ""
    if scripted:
        ids = found.document_ids()
        facts = json.dumps({name: ids[f"account/{name}"] for name in _SCRIPTED})
        script = (
            f'<script type="application/json" id="documents" nonce="{nonce}">{facts}</script>'
            f'<script type="module" nonce="{nonce}" src="{base}/js/passkey.js"></script>'
        )
    values = {
        "language": escape(language),
        "title": escape(title),
        "base": base,
        "nonce": nonce,
        "script": script,
        "nav": nav,
        "body": main,
        "foot": foot,
    }
    html = MARK.sub(lambda mark: values[mark[1]], found.account)
    runs = f" script-src 'nonce-{nonce}'; connect-src 'self';" if scripted else ""
    rules = (
        f"default-src 'none';{runs} style-src 'nonce-{nonce}'; img-src data:; base-uri 'none';"
        f" form-action {targets}; frame-ancestors 'none'; require-trusted-types-for 'script';"
        " trusted-types 'none'"
    )
    sent = headers(rules) | {"Referrer-Policy": referrer}
    return HTMLResponse(html, status_code=status, headers=sent)


def _nav(visit: Visit) -> str:
    here = visit.request.url.path
    links = (
        (HOME, visit.word("people.nav.orders")),
        (METHODS, visit.word("people.nav.methods")),
        (SECURITY, visit.word("people.nav.security")),
    )
    items = "".join(
        f'<a href="{path}"{" aria-current=page" if path == here else ""}>{escape(text)}</a>'
        for path, text in links
    )
    out = f'<button class="small">{escape(visit.word("people.nav.out"))}</button>'
    label = escape(visit.word("people.nav.label"))
    return f'<nav class="nav" aria-label="{label}">{items}{form(SIGN_OUT, out)}</nav>'


def _languages(visit: Visit) -> str:
    path = quote(visit.request.url.path)
    if visit.request.method != "GET":
        path = HOME
    kept = "".join(
        f"&amp;{quote(name)}={quote(text)}"
        for name, text in visit.request.query_params.multi_items()
        if name in ("to", "after") and visit.request.method == "GET"
    )
    links = "".join(
        f'<a href="{path}?language={code}{kept}" lang="{code}" hreflang="{code}" rel="nofollow"'
        f"{' aria-current=true' if code == visit.language else ''}>{_NAMES[code]}</a>"
        for code in i18n.LANGUAGES
    )
    return (
        f'<nav class="languages" aria-label="{escape(visit.word("people.language"))}">{links}</nav>'
    )


def said(visit: Visit, key: str, *, status: int = 200, title: str = "people.title") -> HTMLResponse:
    """One sentence, and the way back."""
    return message(visit, visit.word(key), status=status, title=title)


def message(
    visit: Visit, text: str, *, status: int = 200, title: str = "people.title"
) -> HTMLResponse:
    """One sentence that is there already, and the way back."""
    body = f'<p class="soft" role="status">{escape(text)}</p>{go(HOME, visit.word("people.on"))}'
    return page(visit, visit.word(title), body, status=status)


def go(path: str, text: str) -> str:
    """A link that looks like what it is: the way on."""
    return f'<a class="button go" href="{escape(path)}">{escape(text)}</a>'


def form(action: str, body: str, hidden: Mapping[str, str] | None = None) -> str:
    """A form that posts to a page of ours; `body` is markup."""
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in (hidden or {}).items()
    )
    return f'<form method="post" action="{escape(action)}">{kept}{body}</form>'


def field(
    name: str, label: str, kind: str, attributes: str = "", *, hint: str = "", at: str = ""
) -> str:
    """A labelled input; `at` makes its id another one where a page has several of a name."""
    ident = f"{at}{name}"
    small = f'<small class="soft" id="{ident}-hint">{escape(hint)}</small>' if hint else ""
    told = f' aria-describedby="{ident}-hint"' if hint else ""
    return (
        f'<div class="field"><label for="{ident}">{escape(label)}</label>'
        f'<input id="{ident}" name="{name}" type="{kind}"{told} {attributes}>{small}</div>'
    )


def password(visit: Visit, name: str = "password", *, at: str = "") -> str:
    """The password that somebody has."""
    label = visit.word("people.password")
    return field(
        name, label, "password", 'required maxlength="256" autocomplete="current-password"', at=at
    )


def new_password(visit: Visit, name: str = "new", *, at: str = "") -> str:
    """A password that somebody chooses."""
    return field(
        name,
        visit.word("people.password.new"),
        "password",
        'required minlength="10" maxlength="256" autocomplete="new-password"',
        hint=visit.word("people.password.rule"),
        at=at,
    )


def code(visit: Visit, *, is_long: bool = True) -> str:
    """A code of an authenticator app, or with `is_long` one from paper too."""
    attributes = (
        'required autocomplete="one-time-code" autocapitalize="none" spellcheck="false" '
        f"{'maxlength=40' if is_long else 'inputmode=numeric maxlength=10'}"
    )
    label = visit.word("people.code.any" if is_long else "people.code")
    return field("code", label, "text", attributes)


def submit(text: str, *, is_main: bool = True) -> str:
    """The button of a form."""
    return f'<button class="{"go" if is_main else "quiet"}">{escape(text)}</button>'


def notice(text: str, *, is_calm: bool = False) -> str:
    """A line that says what went wrong, or calmly what was done."""
    if not text:
        return ""
    kind, role = ("notice calm", "status") if is_calm else ("notice", "alert")
    return f'<p class="{kind}" role="{role}">{escape(text)}</p>'


def passkey(visit: Visit, act: str, text: str, to: str, token: str = "") -> str:
    """A button that a script brings to life; nothing is shown of it where passkeys cannot be used."""
    failed = escape(visit.word("people.passkey.failed"))
    return (
        f'<div class="passkey" data-act="{act}" data-to="{escape(to)}" data-token="{escape(token)}"'
        f' data-failed="{failed}" hidden><button type="button" class="quiet">{escape(text)}</button>'
        '<p class="notice" role="alert" hidden></p></div>'
    )


def moment(visit: Visit, iso: str) -> str:
    """A moment, in the zone that everybody can reckon from."""
    text = i18n.date(datetime.fromisoformat(iso), visit.language)
    return f'<time datetime="{escape(iso)}">{escape(text)}</time>'


def money(visit: Visit, amount: Mapping[str, Any]) -> str:
    """An amount as GraphQL gave it."""
    exact = Money.parse(amount["amount"], amount["currency"])
    return escape(i18n.money(exact, visit.language))


def items(found: Iterable[str], kind: str = "rows") -> str:
    """A list; every item is markup."""
    rows = "".join(f"<li>{one}</li>" for one in found)
    return f'<ul class="{kind}">{rows}</ul>' if rows else ""


def plain(text: str) -> str:
    """Foreign text as it can be shown: what would deceive the eye is written out, e.g. ⟨202E⟩."""
    shown = "".join(
        char if char.isprintable() or char == "\n" else f"⟨{ord(char):04X}⟩" for char in text
    )
    return escape(shown)
