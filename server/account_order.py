"""An order without a script: `/account/orders/{id}`, for its buyer and for its merchant's people.

Mails to merchants lead here; `/orders/{id}`, where scripts run, sends a buyer without them here.
"""

from __future__ import annotations

from html import escape
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from domain.core import ids
from server import account_html as html
from server.account_asking import Lost, Refusal, Visit, lead
from server.account_endpoint import page
from server.account_home import status_of
from server.pages import site

REASON_MAX = 500
_SAID = {"reported": "people.said.reported"}


async def _show(visit: Visit, problem: Refusal | None = None) -> Response:
    found = await visit.ask("order", id=visit.request.path_params["order"])
    if found["viewer"] is None:
        raise Refusal("UNAUTHENTICATED", "")
    order = found["order"]
    if order is None:
        raise Lost
    title = visit.word("people.order.title", number=order["number"])
    key = _SAID.get(visit.request.query_params.get("said", ""))
    body = html.notice(visit.word(key) if key and problem is None else "", is_calm=True)
    body += html.notice(problem.message if problem else "")
    body += (
        f'<p class="card rows-head">{status_of(visit, order["status"])}'
        f'<b class="total">{html.money(visit, order["total"])}</b>'
        f'<span class="soft">{html.plain(order["shop"]["name"])} · '
        f"{html.moment(visit, order['createdAt'])}</span></p>"
    )
    body += "".join(
        f'<section class="card"><h2>{html.plain(visit.word(name))}</h2>{rows}</section>'
        for name, rows in _parts(visit, order, problem)
        if rows
    )
    if found["viewer"]["memberships"] or found["viewer"]["isOperator"]:
        body += f'<p class="soft small">{html.plain(visit.word("people.order.api"))}</p>'
    status = 200 if problem is None else 429 if problem.code == "THROTTLED" else 400
    return html.page(visit, title, body, is_wide=True, status=status)


def _parts(
    visit: Visit, order: dict[str, Any], problem: Refusal | None
) -> tuple[tuple[str, str], ...]:
    words = site().words[visit.language]
    lines = html.items(
        f'<span dir="auto">{html.plain(line["title"])}</span>'
        f'<span class="times">{line["delivered"]} / {line["quantity"]}</span>'
        for line in order["lines"]
    )
    payments = html.items(
        f"<span>{html.plain(one['method']['name'])}</span>"
        f"<span>{html.money(visit, one['amount'])} · {escape(words['payment.' + one['status']])}</span>"
        for one in order["payments"]
    )
    legs = html.items(
        f"<span>{escape(words.get('leg.' + one['leg'], one['leg']))}</span>"
        f'<b class="amount">{html.money(visit, one["amount"])}</b>'
        for one in order["fundsFlow"]
    )
    events = html.items(
        f"<span>{escape(words.get('event.' + one['kind'], one['kind']))}</span>"
        f"{html.moment(visit, one['occurredAt'])}"
        for one in reversed(order["timeline"])
    )
    return (
        ("people.order.goods", _goods(visit, order)),
        ("people.order.again", _again(visit, order, problem)),
        ("people.order.lines", lines),
        ("people.order.payments", payments),
        ("people.order.funds", legs),
        ("people.order.events", events),
    )


def _goods(visit: Visit, order: dict[str, Any]) -> str:
    words = site().words[visit.language]

    def told(good: dict[str, Any]) -> str:
        if good["report"]:
            return f"<small>{escape(words['report.' + good['report']])}</small>"
        if good["revoked"]:
            return f'<small class="chip">{escape(words["goods.revoked"])}</small>'
        field = html.field(
            "reason", words["report.why"], "text", f"required maxlength={REASON_MAX}", at=good["id"]
        )
        form = _do(visit, "report", field + html.submit(words["report.send"], is_main=False),
                   line=good["lineId"], good=good["id"])  # fmt: skip
        return f"<details><summary>{escape(words['report.open'])}</summary>{form}</details>"

    return html.items(
        f'<div class="good"><code dir="auto">{html.plain(one["content"])}</code>{told(one)}</div>'
        for one in order["goods"]
    )


def _again(visit: Visit, order: dict[str, Any], problem: Refusal | None) -> str:
    """One form for each saved method. A price that has changed is what the next try agrees to."""
    words = site().words[visit.language]
    total = (problem.facts.get("total") if problem else None) or order["total"]
    forms = ""
    for one in order["savedMethods"] if order["status"] in ("DELIVERED", "REFUNDED") else ():
        amount = html.money(visit, total)
        said = escape(words["again.tap"]).replace("{amount}", amount)
        said = said.replace("{method}", html.plain(one["label"]))
        forms += _do(visit, "again", f'<button class="quiet">{said}</button>', method=one["id"],
                     amount=total["amount"], currency=total["currency"])  # fmt: skip
    return f'<p class="soft">{escape(words["again.why"])}</p>{forms}' if forms else ""


def _do(visit: Visit, name: str, body: str, **more: str) -> str:
    # The key names this showing of the form: sent twice it is done once.
    return html.form(visit.request.url.path, body, {"do": name, "key": ids.uuid7().hex, **more})


async def _act(visit: Visit) -> Response:
    order, form = visit.request.path_params["order"], visit.form
    key = form.get("key", "")[:80] or ids.uuid7().hex
    try:
        if form.get("do") == "report":
            given = {"lineId": form.get("line", ""), "goodId": form.get("good", "")}
            wish = {"orderId": order, "reason": form.get("reason", "").strip(), **given}
            await visit.act("report", input=wish, key=key)
            return lead(f"{visit.request.url.path}?said=reported")
        if form.get("do") == "again":
            expected = {name: form.get(name, "") for name in ("amount", "currency")}
            wish = {"orderId": order, "savedMethodId": form.get("method", "")}
            bought = await visit.act("again", input={**wish, "expectedTotal": expected}, key=key)
            return lead(f"/account/orders/{bought['order']['id']}")
    except Refusal as refusal:
        if refusal.code in ("UNAUTHENTICATED", "MFA_REQUIRED"):
            raise
        return await _show(visit, refusal)
    return lead(visit.request.url.path)


def routes() -> list[Route]:
    """One page."""
    return [Route("/account/orders/{order}", page(_show, _act), methods=["GET", "POST"])]
