"""How an account is protected: address, password, second step, passkeys, devices. `/account/security`."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from domain.core import ids
from server import account_html as html
from server.account_asking import SECURITY, Refusal, Visit, lead
from server.account_endpoint import page

# What a page says after a form was done, by the word in its address.
_SAID = {
    "password": "people.said.password",
    "email": "people.said.email",
    "off": "people.said.off",
    "removed": "people.said.removed",
    "ended": "people.said.ended",
    "devices": "people.said.devices",
    "proved": "people.said.proved",
    "enrol": "people.said.enrol",
    "passkey": "people.said.passkey",
}


async def _show(visit: Visit, problem: Refusal | None = None) -> Response:
    found = await visit.ask("security")
    seen, held = found["viewer"], found["mfa"]
    key = _SAID.get(visit.request.query_params.get("said", ""))
    at = visit.form.get("do", "")
    said = html.notice(problem.message if problem else "")
    body = html.notice(visit.word(key) if key and problem is None else "", is_calm=True)
    parts = {
        "email": _email(visit, seen["email"]),
        "password": _password(visit, seen["email"]),
        "enrol": _totp(visit, held),
        "passkey": _passkeys(visit, held["passkeys"]),
        "revoke": _devices(visit, seen),
    }
    spoken = _PARTS.get(at, at)
    body += said if spoken not in parts else ""
    for name, (title, part) in parts.items():
        shown = said if name == spoken else ""
        body += (
            f'<section class="card" id="{name}"><h2>{html.plain(visit.word(title))}</h2>'
            f"{shown}{part}</section>"
        )
    status = 200 if problem is None else 429 if problem.code == "THROTTLED" else 400
    title = visit.word("people.security.title")
    return html.page(visit, title, body, is_wide=True, status=status, scripted=True)


# Where on the page a form stands, when it is not called like its part.
_PARTS = {
    "disable": "enrol",
    "codes": "enrol",
    "confirm": "enrol",
    "remove": "passkey",
    "others": "revoke",
    "devices": "revoke",
}


def _do(name: str, body: str, **more: str) -> str:
    return html.form(SECURITY, body, {"do": name, **more})


def _why(visit: Visit, key: str, **facts: Any) -> str:
    return f'<p class="soft">{html.plain(visit.word(key, **facts))}</p>'


def _email(visit: Visit, email: str) -> tuple[str, str]:
    label = visit.word("people.email.new")
    fields = (
        html.field("email", label, "email", 'required autocomplete="email" maxlength="320"')
        + html.password(visit, at="email-")
        + html.submit(visit.word("people.email.go"), is_main=False)
    )
    now = f"<p>{html.plain(visit.word('people.email.now', email=email))}</p>"
    why = _why(visit, "people.email.why")
    return "people.email.title", now + _more(
        visit.word("people.email.change"),
        why + _do("email", fields, key=ids.uuid7().hex),
        is_open=visit.form.get("do") == "email",
    )


def _password(visit: Visit, email: str) -> tuple[str, str]:
    fields = (
        f'<input type="hidden" name="username" autocomplete="username" value="{escape(email)}">'
        + html.password(visit, at="password-")
        + html.new_password(visit, at="password-")
        + html.submit(visit.word("people.password.go"), is_main=False)
    )
    why = _why(visit, "people.password.why")
    return "people.password.title", _more(
        visit.word("people.password.change"),
        why + _do("password", fields),
        is_open=visit.form.get("do") == "password",
    )


def _more(label: str, body: str, *, is_open: bool) -> str:
    """A part that opens when it is asked for."""
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{html.plain(label)}</summary>{body}</details>"


def _totp(visit: Visit, held: Mapping[str, Any]) -> tuple[str, str]:
    title = "people.totp.title"
    left = held["recoveryCodesLeft"]
    codes = ""
    if held["hasTotp"] or held["passkeys"]:
        codes = _why(visit, "people.codes.left", left=left)
        codes += _do("codes", html.submit(visit.word("people.codes.renew"), is_main=False))
    if held["hasTotp"]:
        on = f'<p><span class="chip good">{html.plain(visit.word("people.totp.on"))}</span></p>'
        off = _do("disable", html.submit(visit.word("people.totp.off"), is_main=False))
        return title, on + codes + off
    fields = html.password(visit, at="totp-") + html.submit(
        visit.word("people.totp.begin"), is_main=False
    )
    begin = _more(
        visit.word("people.totp.set_up"),
        _do("enrol", fields),
        is_open=visit.form.get("do") == "enrol",
    )
    return title, _why(visit, "people.totp.why") + begin + codes


def _passkeys(visit: Visit, passkeys: list[dict[str, Any]]) -> tuple[str, str]:
    rows = html.items(
        f"<span><b>{html.plain(one['name'])}</b>"
        f'<small class="soft">{html.plain(visit.word("people.passkey.since"))} '
        f"{html.moment(visit, one['createdAt'])}"
        + (f" · {html.plain(visit.word('people.passkey.cloned'))}" if one["clonedAt"] else "")
        + "</small></span>"
        + _do(
            "remove",
            f'<button class="small">{escape(visit.word("people.passkey.remove"))}'
            f'<span class="unseen"> {html.plain(one["name"])}</span></button>',
            id=one["id"],
        )
        for one in passkeys
    )
    add = (
        f'<form class="passkey" data-act="add" data-to="{SECURITY}?said=passkey" data-token=""'
        f' data-failed="{escape(visit.word("people.passkey.failed"))}"'
        f' data-codes="{escape(visit.word("people.codes.title"))}"'
        f' data-why="{escape(visit.word("people.codes.why"))}"'
        f' data-on="{escape(visit.word("people.on"))}" method="post" action="{SECURITY}" hidden>'
        + html.field(
            "name",
            visit.word("people.passkey.name"),
            "text",
            'required maxlength="64"',
            at="passkey-",
        )
        + html.password(visit, at="passkey-")
        + '<p class="notice" role="alert" hidden></p>'
        + html.submit(visit.word("people.passkey.add"), is_main=False)
        + "</form>"
    )
    script = f"<noscript><p>{html.plain(visit.word('people.passkey.script'))}</p></noscript>"
    more = _more(visit.word("people.passkey.new"), add + script, is_open=False)
    return "people.passkey.title", _why(visit, "people.passkey.why") + rows + more


def _devices(visit: Visit, seen: Mapping[str, Any]) -> tuple[str, str]:
    rows = html.items(
        f"<span><b>{html.plain(_named(one['device']) or visit.word('people.device.unknown'))}</b>"
        f'<small class="soft">{html.plain(one["address"] or "")} '
        f"{html.plain(visit.word('people.device.seen'))} {html.moment(visit, one['lastSeenAt'])}"
        "</small></span>"
        + (
            f'<span class="chip good">{html.plain(visit.word("people.device.this"))}</span>'
            if one["isCurrent"]
            else _do(
                "revoke",
                f'<button class="small">{escape(visit.word("people.device.end"))}</button>',
                id=one["id"],
            )
        )
        for one in seen["sessions"]
    )
    others = ""
    if len(seen["sessions"]) > 1:
        others = _do("others", html.submit(visit.word("people.device.others"), is_main=False))
    known = _why(visit, "people.device.known", count=seen["knownDevices"])
    forget = _do("devices", html.submit(visit.word("people.device.forget"), is_main=False))
    return "people.device.title", rows + others + known + (forget if seen["knownDevices"] else "")


# What a browser calls itself, the more exact name first: most claim to be several.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def _named(agent: str | None) -> str:
    """A device in words people know: "Firefox, Windows"; what it says itself when that is nothing known."""
    if not agent:
        return ""
    known = [next((name for mark, name in of if mark in agent), "") for of in (_BROWSERS, _SYSTEMS)]
    return ", ".join(filter(None, known)) or agent[:60]


async def _change_email(visit: Visit) -> Response:
    given = {"email": visit.form.get("email", ""), "password": visit.form.get("password", "")}
    await visit.act("email", input=given, key=visit.form.get("key", "")[:80] or ids.uuid7().hex)
    return lead(f"{SECURITY}?said=email")


async def _change_password(visit: Visit) -> Response:
    given = {
        "currentPassword": visit.form.get("password", ""),
        "newPassword": visit.form.get("new", ""),
        "cookie": True,
    }
    await visit.act("password", input=given)
    return lead(f"{SECURITY}?said=password")


async def _enrol(visit: Visit) -> Response:
    made = await visit.act("enrol", input={"password": visit.form.get("password", "")})
    picture = base64.b64encode(made["qrSvg"].encode()).decode()
    alt = escape(visit.word("people.totp.qr"))
    spaced = " ".join(made["secret"][at : at + 4] for at in range(0, len(made["secret"]), 4))
    body = (
        _why(visit, "people.totp.scan")
        + f'<img class="qr" alt="{alt}" src="data:image/svg+xml;base64,{picture}">'
        + f"<p>{html.plain(visit.word('people.totp.secret'))}<br><code>{escape(spaced)}</code></p>"
    )
    return _ask_code(visit, body)


def _ask_code(visit: Visit, body: str = "", problem: Refusal | None = None) -> Response:
    fields = html.code(visit, is_long=False) + html.submit(visit.word("people.totp.confirm"))
    body += html.notice(problem.message if problem else "") + _do("confirm", fields)
    title = visit.word("people.totp.title")
    return html.page(visit, title, body, status=400 if problem else 200)


async def _confirm(visit: Visit) -> Response:
    try:
        made = await visit.act("confirm", code=visit.form.get("code", "").strip())
    except Refusal as refusal:
        if refusal.code != "TOTP_INVALID":
            raise
        return _ask_code(visit, problem=refusal)  # the app has the secret already
    return _codes(visit, made["recoveryCodes"])


async def _renew(visit: Visit) -> Response:
    return _codes(visit, (await visit.act("codes"))["recoveryCodes"])


def _codes(visit: Visit, codes: list[str]) -> Response:
    """Shown this once: no address leads here again."""
    body = (
        _why(visit, "people.codes.why")
        + html.items((f"<code>{escape(one)}</code>" for one in codes), "codes")
        + html.go(SECURITY, visit.word("people.codes.kept"))
    )
    return html.page(visit, visit.word("people.codes.title"), body)


async def _disable(visit: Visit) -> Response:
    await visit.act("disable")
    return lead(f"{SECURITY}?said=off")


async def _remove(visit: Visit) -> Response:
    await visit.act("remove-passkey", id=visit.form.get("id", ""))
    return lead(f"{SECURITY}?said=removed")


async def _revoke(visit: Visit) -> Response:
    await visit.act("revoke", id=visit.form.get("id", ""))
    return lead(f"{SECURITY}?said=ended")


async def _revoke_others(visit: Visit) -> Response:
    await visit.act("revoke-others")
    return lead(f"{SECURITY}?said=ended")


async def _forget_devices(visit: Visit) -> Response:
    await visit.act("forget-devices")
    return lead(f"{SECURITY}?said=devices")


_DO: Mapping[str, Callable[[Visit], Awaitable[Response]]] = {
    "email": _change_email,
    "password": _change_password,
    "enrol": _enrol,
    "confirm": _confirm,
    "codes": _renew,
    "disable": _disable,
    "remove": _remove,
    "revoke": _revoke,
    "others": _revoke_others,
    "devices": _forget_devices,
}


async def _act(visit: Visit) -> Response:
    act = _DO.get(visit.form.get("do", ""))
    if act is None:
        return lead(SECURITY)
    try:
        return await act(visit)
    except Refusal as refusal:
        if refusal.code in ("UNAUTHENTICATED", "MFA_REQUIRED"):
            raise
        return await _show(visit, refusal)


def routes() -> list[Route]:
    """One page with every form."""
    return [Route(SECURITY, page(_show, _act), methods=["GET", "POST"])]
