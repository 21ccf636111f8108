"""What somebody has bought and saved: `/account`, `/account/methods`."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from server import account_html as html
from server.account_asking import HOME, Refusal, Visit, lead
from server.account_endpoint import page
from server.account_sign_in import FORGOT
from server.pages import site

SHOWN, CURSOR_MAX = 20, 400
# What is over or has gone well is calm; what somebody has to look at is not.
_TONES = {"DELIVERED": "good", "PAID": "wait", "DELIVERING": "wait", "AWAITING_PAYMENT": "wait"}
_ODD = ("HELD", "SHORT", "DISPUTED")


def status_of(visit: Visit, status: str) -> str:
    tone = _TONES.get(status, "warn" if status in _ODD else "")
    text = site().words[visit.language][f"status.{status}"]
    return f'<span class="chip {tone}">{escape(text)}</span>'


async def _orders(visit: Visit) -> Response:
    after = visit.request.query_params.get("after", "")[:CURSOR_MAX] or None
    try:
        seen = (await visit.ask("home", first=SHOWN, after=after))["viewer"]
    except Refusal as refusal:
        if refusal.code == "BAD_USER_INPUT" and after is not None:
            return lead(HOME)  # a cursor of another day
        raise
    if seen is None:
        raise Refusal("UNAUTHENTICATED", "")
    title = visit.word("people.orders.title")
    body = _unproved(visit) if not seen["isVerified"] else ""
    found = seen["orders"]
    body += f'<p class="soft">{html.plain(visit.word("people.orders.of", email=seen["email"]))}</p>'
    body += html.items((_row(visit, one) for one in found["nodes"]), "card rows")
    if not found["nodes"]:
        body += f'<p class="card soft">{html.plain(visit.word("people.orders.none"))}</p>'
    if found["pageInfo"]["hasNextPage"]:
        older = html.plain(visit.word("people.orders.older"))
        cursor = quote(found["pageInfo"]["endCursor"])
        body += f'<a class="button" rel="next" href="{HOME}?after={cursor}">{older}</a>'
    if seen["memberships"] and after is None:
        body += _shops(visit, seen["memberships"])
    return html.page(visit, title, body, is_wide=True)


def _unproved(visit: Visit) -> str:
    text = html.plain(visit.word("people.unproved"))
    link = html.plain(visit.word("people.unproved.link"))
    return f'<p class="notice calm" role="status"><span>{text} <a href="{FORGOT}">{link}</a></span></p>'


def _row(visit: Visit, order: dict[str, Any]) -> str:
    bought = ", ".join(
        f"{line['quantity']} × {line['title']}" if line["quantity"] > 1 else line["title"]
        for line in order["lines"]
    )
    return (
        f'<a class="row" href="/orders/{escape(order["id"])}">'
        f'<span class="row-what"><b dir="auto">{html.plain(bought)}</b>'
        f'<small class="soft">{html.plain(order["shop"]["name"])} · {escape(order["number"])} · '
        f"{html.moment(visit, order['createdAt'])}</small></span>"
        f'<span class="row-how"><b class="amount">{html.money(visit, order["total"])}</b>'
        f"{status_of(visit, order['status'])}</span></a>"
    )


def _shops(visit: Visit, memberships: list[dict[str, Any]]) -> str:
    rows = html.items(
        f"<b>{html.plain(one['merchantName'])}</b> "
        f'<span class="chip">{escape(visit.word("people.role", role=one["role"].lower()))}</span>'
        for one in memberships
    )
    why = html.plain(visit.word("people.shops.why"))
    return (
        f'<section class="card"><h2>{html.plain(visit.word("people.shops.title"))}</h2>'
        f'<p class="soft small">{why}</p>{rows}</section>'
    )


async def _methods(visit: Visit) -> Response:
    seen = (await visit.ask("methods"))["viewer"]
    if seen is None:
        raise Refusal("UNAUTHENTICATED", "")
    rows = html.items(
        (
            f"<span><b>{html.plain(one['label'])}</b>"
            f'<small class="soft">{html.plain(one["method"]["name"])} · '
            f"{html.plain(visit.word('people.methods.since'))} {html.moment(visit, one['savedAt'])}"
            "</small></span>"
            + html.form(
                html.METHODS,
                f'<button class="small">{escape(visit.word("people.methods.forget"))}'
                f'<span class="unseen"> {html.plain(one["label"])}</span></button>',
                {"order": one["orderId"], "method": one["id"]},
            )
            for one in seen["savedMethods"]
        ),
        "card rows",
    )
    if not rows:
        rows = f'<p class="card soft">{html.plain(visit.word("people.methods.none"))}</p>'
    done = visit.request.query_params.get("said") == "forgotten"
    body = (
        html.notice(visit.word("people.methods.forgotten") if done else "", is_calm=True)
        + f'<p class="soft">{html.plain(visit.word("people.methods.why"))}</p>{rows}'
    )
    return html.page(visit, visit.word("people.methods.title"), body, is_wide=True)


async def _forget(visit: Visit) -> Response:
    wish = {
        "orderId": visit.form.get("order", ""),
        "savedMethodId": visit.form.get("method", ""),
    }
    await visit.act("forget-method", input=wish)
    return lead(f"{html.METHODS}?said=forgotten")


def routes() -> list[Route]:
    """The account's home, and what is saved."""
    return [
        Route(HOME, page(_orders), methods=["GET"]),
        Route(html.METHODS, page(_methods, _forget), methods=["GET", "POST"]),
    ]
