"""Signing up, in and out, and a forgotten password: `/account/sign-up`, `sign-in`, `proof`, `sign-out`, `forgot`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from domain.core import ids
from server import account_html as html
from server.account_asking import HOME, PROOF, SECURITY, SIGN_IN, Refusal, Visit, lead, own
from server.account_endpoint import page

SIGN_UP, FORGOT, CODE = "/account/sign-up", "/account/forgot", "/account/sign-in/code"


def _to(visit: Visit) -> str:
    return own(visit.form.get("to") or visit.request.query_params.get("to"))


async def _sign_in(visit: Visit) -> Response:
    return _ask_who(visit)


def _ask_who(visit: Visit, problem: Refusal | None = None) -> Response:
    to = _to(visit)
    fields = (
        html.field(
            "email",
            visit.word("people.email"),
            "email",
            f'required autocomplete="username" maxlength="320" value="{_kept(visit, "email")}"',
        )
        + html.password(visit)
        + html.notice(problem.message if problem else "")
        + html.submit(visit.word("people.sign_in.go"))
    )
    body = (
        html.form(SIGN_IN, fields, {"to": to})
        + html.passkey(visit, "sign-in", visit.word("people.sign_in.passkey"), to)
        + f'<p class="ways-on"><a href="{FORGOT}">{html.plain(visit.word("people.forgot.link"))}</a>'
        f'<a href="{SIGN_UP}">{html.plain(visit.word("people.sign_up.link"))}</a></p>'
    )
    return _made(visit, "people.sign_in.title", body, problem, scripted=True)


async def _open(visit: Visit) -> Response:
    given = {"email": visit.form.get("email", ""), "password": visit.form.get("password", "")}
    try:
        told = await visit.act("sign-in", input={**given, "cookie": True})
    except Refusal as refusal:
        return _ask_who(visit, refusal)
    if told["__typename"] == "MfaRequired":
        return _ask_factor(visit, told["signInToken"], told["factors"])
    return lead(_to(visit))


def _ask_factor(
    visit: Visit, token: str, factors: list[str], problem: Refusal | None = None
) -> Response:
    """The second step of a sign-in whose password was right."""
    to = _to(visit)
    body = html.notice(problem.message if problem else "")
    if {"TOTP", "RECOVERY_CODE"} & {*factors}:
        fields = html.code(visit) + html.submit(visit.word("people.sign_in.go"))
        kept = {"to": to, "token": token, "factors": " ".join(factors)}
        body += html.form(CODE, fields, kept)
    if "PASSKEY" in factors:
        body += html.passkey(visit, "complete", visit.word("people.passkey.use"), to, token)
        body += f"<noscript><p>{html.plain(visit.word('people.passkey.script'))}</p></noscript>"
    return _made(visit, "people.factor.title", body, problem, scripted=True)


async def _complete(visit: Visit) -> Response:
    token, factors = visit.form.get("token", ""), visit.form.get("factors", "").split()
    given = {"signInToken": token, "code": visit.form.get("code", "").strip(), "cookie": True}
    try:
        await visit.act("complete", input=given)
    except Refusal as refusal:
        if refusal.code == "SIGN_IN_EXPIRED":
            return _ask_who(visit, refusal)
        return _ask_factor(visit, token, factors, refusal)
    return lead(_to(visit))


async def _sign_out(visit: Visit) -> Response:
    try:
        await visit.act("sign-out")
    except Refusal as refusal:
        if refusal.code != "UNAUTHENTICATED":  # it was over already
            raise
    return lead(SIGN_IN)


async def _sign_up(visit: Visit) -> Response:
    return _ask_new(visit)


def _ask_new(visit: Visit, problem: Refusal | None = None) -> Response:
    fields = (
        html.field(
            "email",
            visit.word("people.email"),
            "email",
            f'required autocomplete="username" maxlength="320" value="{_kept(visit, "email")}"',
        )
        + html.new_password(visit)
        + html.notice(problem.message if problem else "")
        + html.submit(visit.word("people.sign_up.go"))
    )
    body = (
        f'<p class="soft">{html.plain(visit.word("people.sign_up.why"))}</p>'
        + html.form(SIGN_UP, fields, {"key": _key(visit)})
        + f'<p class="ways-on"><a href="{SIGN_IN}">{html.plain(visit.word("people.sign_in.link"))}</a></p>'
    )
    return _made(visit, "people.sign_up.title", body, problem)


async def _register(visit: Visit) -> Response:
    given = {"email": visit.form.get("email", ""), "password": visit.form.get("new", "")}
    given["locale"] = visit.language
    try:
        told = await visit.act("sign-up", input=given, key=_key(visit))
    except Refusal as refusal:
        return _ask_new(visit, refusal)
    return _mailed(visit, told["email"])


async def _forgot(visit: Visit) -> Response:
    return _ask_address(visit)


def _ask_address(visit: Visit, problem: Refusal | None = None) -> Response:
    fields = (
        html.field(
            "email",
            visit.word("people.email"),
            "email",
            f'required autocomplete="username" maxlength="320" value="{_kept(visit, "email")}"',
        )
        + html.notice(problem.message if problem else "")
        + html.submit(visit.word("people.forgot.go"))
    )
    body = (
        f'<p class="soft">{html.plain(visit.word("people.forgot.why"))}</p>'
        + html.form(FORGOT, fields, {"key": _key(visit)})
        + f'<p class="ways-on"><a href="{SIGN_IN}">{html.plain(visit.word("people.sign_in.link"))}</a></p>'
    )
    return _made(visit, "people.forgot.title", body, problem)


async def _send_link(visit: Visit) -> Response:
    try:
        told = await visit.act("forgot", email=visit.form.get("email", ""), key=_key(visit))
    except Refusal as refusal:
        return _ask_address(visit, refusal)
    return _mailed(visit, told["email"])


def _mailed(visit: Visit, email: str) -> Response:
    text = visit.word("people.mailed", email=email)
    return html.message(visit, text, title="people.mailed.title")


async def _proof(visit: Visit) -> Response:
    return await _ask_proof(visit)


async def _ask_proof(visit: Visit, problem: Refusal | None = None) -> Response:
    """Prove the second factor again, before something that takes it."""
    to = own(visit.form.get("to") or visit.request.query_params.get("to") or SECURITY)
    held: dict[str, Any] = (await visit.ask("proof"))["mfa"]
    if not (held["hasTotp"] or held["passkeys"]):
        return lead(f"{SECURITY}?said=enrol")
    body = f'<p class="soft">{html.plain(visit.word("people.proof.why"))}</p>'
    body += html.notice(problem.message if problem else "")
    if held["hasTotp"] or held["recoveryCodesLeft"]:
        fields = html.code(visit) + html.submit(visit.word("people.proof.go"))
        body += html.form(PROOF, fields, {"to": to})
    if held["passkeys"]:
        body += html.passkey(visit, "verify", visit.word("people.passkey.use"), f"{to}?said=proved")
        body += f"<noscript><p>{html.plain(visit.word('people.passkey.script'))}</p></noscript>"
    return _made(visit, "people.proof.title", body, problem, scripted=True)


async def _prove(visit: Visit) -> Response:
    try:
        await visit.act("verify", code=visit.form.get("code", "").strip())
    except Refusal as refusal:
        if refusal.code in ("UNAUTHENTICATED", "MFA_REQUIRED"):
            raise
        return await _ask_proof(visit, refusal)
    return lead(f"{own(visit.form.get('to'))}?said=proved")


def _made(
    visit: Visit, title: str, body: str, problem: Refusal | None, *, scripted: bool = False
) -> Response:
    status = 200 if problem is None else 429 if problem.code == "THROTTLED" else 400
    made = html.page(visit, visit.word(title), body, status=status, scripted=scripted)
    if problem is not None and problem.retry_after is not None:
        made.headers["Retry-After"] = str(problem.retry_after)
    return made


def _kept(visit: Visit, name: str) -> str:
    return html.plain(visit.form.get(name, ""))


def _key(visit: Visit) -> str:
    """Names this showing of a form: sent twice it is done once, sent again after a refusal it is new."""
    return visit.form.get("key", "")[:80] or ids.uuid7().hex


def routes() -> list[Route]:
    """The pages before somebody is signed in, and the proof of a second factor."""
    return [
        Route(SIGN_IN, page(_sign_in, _open), methods=["GET", "POST"]),
        Route(CODE, page(_back, _complete), methods=["GET", "POST"]),
        Route(SIGN_UP, page(_sign_up, _register), methods=["GET", "POST"]),
        Route(FORGOT, page(_forgot, _send_link), methods=["GET", "POST"]),
        Route(PROOF, page(_proof, _prove), methods=["GET", "POST"]),
        Route(html.SIGN_OUT, page(_home, _sign_out), methods=["GET", "POST"]),
    ]


async def _back(visit: Visit) -> Response:
    return lead(f"{SIGN_IN}?to={quote(_to(visit))}")


async def _home(visit: Visit) -> Response:
    return lead(HOME)
