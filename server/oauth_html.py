"""The HTML of the pages where people sign in and decide about apps: plain forms, no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse

import i18n
from server.account_html import document


def page(
    language: str, title: str, body: str, *, status: int = 200, may_lead_to: str | None = None
) -> HTMLResponse:
    """One page. `may_lead_to` is where its form's answer may send the browser, besides to ourselves."""
    # Browsers hold redirects after a form against form-action as well.
    targets = "'self'"
    if may_lead_to is not None:
        parts = urlsplit(may_lead_to)
        web = parts.scheme in ("http", "https")
        targets += f" {parts.scheme}://{parts.netloc}" if web else f" {parts.scheme}:"
    card = f'<div class="card narrow consent"><h1>{escape(title)}</h1>{body}</div>'
    # Not `no-referrer`: older browsers would then say `Origin: null` of our own forms.
    made = document(language, title, card, status=status, referrer="same-origin", targets=targets)
    made.headers["X-Frame-Options"] = "DENY"
    return made


def sign_in(language: str, to: str, *, seal: str, problem: str | None = None) -> HTMLResponse:
    """Who is it? `to` is where it goes on afterwards."""
    word = _words(language)
    shown = f'<p class="bad" role="alert">{escape(problem)}</p>' if problem else ""
    body = (
        f"<p>{escape(word('oauth.sign_in.why'))}</p>{shown}"
        f'<form method="post" action="/oauth/sign-in">{hidden({"to": to, "seal": seal})}'
        f"<label>{escape(word('oauth.sign_in.email'))}"
        '<input type="email" name="email" autocomplete="username" required autofocus></label>'
        f"<label>{escape(word('oauth.sign_in.password'))}"
        '<input type="password" name="password" autocomplete="current-password" required></label>'
        f'<button class="yes">{escape(word("oauth.sign_in.go"))}</button></form>'
    )
    return page(language, word("oauth.sign_in.title"), body, status=400 if problem else 200)


def enter_factor(
    language: str, to: str, *, seal: str, half: str, problem: str | None = None
) -> HTMLResponse:
    """The second factor of a sign-in whose password was right."""
    word = _words(language)
    shown = f'<p class="bad" role="alert">{escape(problem)}</p>' if problem else ""
    body = (
        f'{shown}<form method="post" action="/oauth/sign-in/code">'
        f"{hidden({'to': to, 'seal': seal, 'half': half})}"
        f"<label>{escape(word('oauth.code.label'))}"
        '<input type="text" name="code" autocomplete="one-time-code" maxlength="40" required'
        " autofocus></label>"
        f'<button class="yes">{escape(word("oauth.sign_in.go"))}</button></form>'
    )
    return page(language, word("oauth.code.title"), body, status=400 if problem else 200)


def consent(
    language: str,
    *,
    title: str,
    facts: Iterable[str],
    allowed: Iterable[str],
    merchants: Mapping[str, str],
    action: str,
    fields: Mapping[str, str],
    may_lead_to: str | None,
) -> HTMLResponse:
    """What an app wants, in words; which merchant it is for, when there is a choice; yes or no."""
    word = _words(language)
    rows = "".join(f"<li>{escape(one)}</li>" for one in allowed)
    told = "".join(f"<p>{escape(one)}</p>" for one in facts)
    choice = "".join(
        f'<label><input type="radio" name="merchant" value="{escape(key)}" required'
        f"{' checked' if len(merchants) == 1 else ''}> {escape(name)}</label>"
        for key, name in merchants.items()
    )
    body = (
        f"<p>{escape(word('oauth.consent.may'))}</p><ul>{rows}</ul>{told}"
        f'<form method="post" action="{escape(action)}">{hidden(fields)}'
        f"<fieldset><legend>{escape(word('oauth.consent.where'))}</legend>{choice}</fieldset>"
        f'<button class="yes" name="word" value="yes">{escape(word("oauth.consent.yes"))}</button>'
        f'<button name="word" value="no" formnovalidate>{escape(word("oauth.consent.no"))}</button>'
        f"</form><p><small>{escape(word('oauth.consent.end'))}</small></p>"
    )
    return page(language, title, body, may_lead_to=may_lead_to)


def enter_code(language: str, *, problem: str | None = None) -> HTMLResponse:
    """Where a person types what a device shows."""
    word = _words(language)
    shown = f'<p class="bad" role="alert">{escape(problem)}</p>' if problem else ""
    body = (
        f'{shown}<form method="get" action="/oauth/device">'
        f"<label>{escape(word('oauth.device.code'))}"
        '<input type="text" name="user_code" autocomplete="off" autocapitalize="characters"'
        ' maxlength="20" required autofocus></label>'
        f'<button class="yes">{escape(word("oauth.device.go"))}</button></form>'
    )
    return page(language, word("oauth.device.title"), body, status=404 if problem else 200)


def said(language: str, key: str, *, status: int = 200, why: str = "") -> HTMLResponse:
    """One sentence, and for developers the reason."""
    more = f"<p><small>{escape(why)}</small></p>" if why else ""
    text = i18n.text(key, language)
    return page(language, "Kami", f"<p>{escape(text)}</p>{more}", status=status)


def hidden(fields: Mapping[str, str]) -> str:
    """Hidden inputs of a form."""
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields.items()
    )


def _words(language: str) -> Callable[[str], str]:
    return lambda key: i18n.text(key, language)
