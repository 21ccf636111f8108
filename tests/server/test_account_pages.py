"""The pages behind the links of mails: no script, a GET changes nothing, a form works once."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.types import Message

import i18n
from domain import identity, merchants
from domain.core import db as core
from domain.core.errors import Unavailable
from domain.identity import Actor, Role
from server import account
from tests import rows
from tests.letters import last_token

EMAIL, PASSWORD, ADDRESS = "buyer@shop.test", "correct horse battery", "203.0.113.9"
NEW = "another horse battery"
KINDS = ("verify", "reset", "invitation")


async def send(
    method: str, path: str, *, query: str = "", body: bytes = b"", **headers: str
) -> tuple[int, list[tuple[str, str]], str]:
    """One request straight into the routes of the pages."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def take(message: Message) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1:8000"), *given],
        "client": (ADDRESS, 1),
        "server": ("127.0.0.1", 8000),
    }
    await Starlette(routes=account.routes())(scope, receive, take)
    head = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    text = b"".join(part.get("body", b"") for part in sent[1:]).decode()
    return sent[0]["status"], head, text


async def post(
    kind: str, token: str, password: str = PASSWORD, **headers: str
) -> tuple[int, list[tuple[str, str]], str]:
    given = {
        "content_type": "application/x-www-form-urlencoded",
        "sec_fetch_site": "same-origin",
        **headers,
    }
    body = urlencode({"token": token, "password": password}).encode()
    return await send("POST", f"/account/{kind}", body=body, **given)


async def link(kind: str) -> str:
    """The token of a fresh mail."""
    if kind == "verify":
        await identity.sign_up(EMAIL, PASSWORD, "en", address=ADDRESS)
    elif kind == "reset":
        await identity.register(EMAIL, PASSWORD)
        await identity.request_reset(EMAIL, "en", address=ADDRESS)
    else:
        merchant_id = await merchants.open_merchant(
            "Lantern", base_ccy="USD", country="SG", contact_email="shop@shop.test"
        )
        owner = await identity.register("owner@shop.test", PASSWORD)
        await identity.invite(merchant_id, EMAIL, Role.SUPPORT, locale="en", by=Actor(owner))
    return await last_token()


@pytest.mark.parametrize("kind", KINDS)
async def test_w11_h36_a_page_runs_nothing_and_is_never_stored_framed_or_leaked(
    db: None, kind: str
) -> None:
    token = await link(kind)
    before = await rows.everything()

    status, head, html = await send("GET", f"/account/{kind}", query=f"token={token}")

    found = dict(head)
    assert status == 200
    assert found["cache-control"] == "no-store"
    assert found["referrer-policy"] == "no-referrer"
    rules = found["content-security-policy"]
    assert rules.startswith("default-src 'none';")
    assert "script-src" not in rules
    assert "unsafe" not in rules
    assert "form-action 'self'" in rules
    assert "frame-ancestors 'none'" in rules
    assert not re.search(r"<script|\son\w+=|\sstyle=|javascript:", html)
    assert EMAIL in html
    assert await rows.everything() == before  # mail scanners follow links


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_leads_on_in_every_language(db: None, kind: str, language: str) -> None:
    token = await link(kind)

    _, _, form = await send(
        "GET", f"/account/{kind}", query=f"token={token}", accept_language=language
    )
    status, _, done = await post(
        kind, token, NEW if kind == "reset" else PASSWORD, accept_language=language
    )
    again, _, over = await post(kind, token, accept_language=language)

    assert f'<html lang="{language}">' in form
    assert (status, again) == (200, 404)
    titles = [re.findall(r"<h1>(.+)</h1>", page)[0] for page in (form, done, over)]
    assert len(set(titles)) == 3
    assert "{" not in form + done + over
    assert await identity.sign_in(EMAIL, NEW if kind == "reset" else PASSWORD, ADDRESS)


async def test_a_confirmed_address_is_signed_in_by_cookies_no_script_or_other_site_can_use(
    db: None,
) -> None:
    _, head, _ = await post("verify", await link("verify"))

    cookies = [value for name, value in head if name == "set-cookie"]
    assert [one.partition("=")[0] for one in cookies] == ["kami_session", "kami_device"]
    for one in cookies:
        assert one.split("; ")[1] == "Path=/"
        assert one.split("; ")[3:] == ["HttpOnly", "SameSite=Lax"]  # Secure is for production
    token = re.findall(r"=([^;]+);", cookies[0])[0]
    assert await identity.viewer(token) is not None
    assert await core.value("SELECT address FROM audit_log") == ADDRESS


async def test_a_browser_that_does_not_vouch_for_our_page_is_not_signed_in(db: None) -> None:
    status, head, _ = await post("verify", await link("verify"), sec_fetch_site="")

    assert status == 403
    given = urlencode({"token": await last_token(), "password": PASSWORD}).encode()
    status, head, _ = await send(
        "POST",
        "/account/verify",
        body=given,
        content_type="application/x-www-form-urlencoded",
    )
    assert status == 200
    assert [value for name, value in head if name == "set-cookie"] == []
    assert await core.value("SELECT count(*) FROM session") == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"content_type": "text/plain"},
        {"content_type": "multipart/form-data; boundary=x"},
    ],
)
async def test_h06_a_form_of_another_page_does_nothing(db: None, headers: dict[str, str]) -> None:
    token = await link("verify")
    before = await rows.everything()

    status, _, _ = await post("verify", token, **headers)

    assert status == 403
    assert await rows.everything() == before


async def test_j38_a_form_that_is_too_large_or_no_form_does_nothing(db: None) -> None:
    token = await link("verify")
    before = await rows.everything()

    for body in (b"token=" + token.encode() + b"&password=" + b"x" * 5_000, b"\xff", b"a=1&" * 20):
        status, _, _ = await send(
            "POST",
            "/account/verify",
            body=body,
            content_type="application/x-www-form-urlencoded",
        )
        assert status in (403, 404)
    assert await rows.everything() == before


async def test_a_mistake_shows_the_form_again_with_what_is_wrong(db: None) -> None:
    token = await link("verify")

    wrong, _, form = await post("verify", token, "wrong")
    for _ in range(9):
        await post("verify", token, "wrong")
    late, head, throttled = await post("verify", token)

    assert (wrong, late) == (400, 429)
    assert i18n.text("CREDENTIALS_INVALID", "en") in form.replace("&#x27;", "'")
    assert f'value="{token}"' in form
    assert 'role="alert"' in throttled
    assert 0 < int(dict(head)["retry-after"]) <= 900


async def test_a_weak_password_is_told_by_its_rule(db: None) -> None:
    token = await link("reset")

    status, _, form = await post("reset", token, "short")
    changed, head, _ = await post("reset", token, NEW)

    assert (status, changed) == (400, 200)
    assert "10 to 256 characters" in form
    cookies = [value.partition("=")[0] for name, value in head if name == "set-cookie"]
    assert cookies == ["kami_device"]  # no session: whoever is at this browser signs in


@pytest.mark.parametrize("token", ["", "x", "kami_l_" + "A" * 43, "<script>", "kami_l_" + "é" * 43])
async def test_what_is_no_link_is_not_found(db: None, token: str) -> None:
    for kind in KINDS:
        status, head, html = await send(
            "GET", f"/account/{kind}", query=urlencode({"token": token})
        )
        assert status == 404
        assert dict(head)["cache-control"] == "no-store"
        assert "<script" not in html


async def test_a_database_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise Unavailable(what="database")

    monkeypatch.setattr(identity, "look_at", away)
    status, _, html = await send("GET", "/account/reset", query="token=x")

    assert status == 503
    assert i18n.text("UNAVAILABLE", "en") in html
