"""`kami demo buy`: one purchase for real, over HTTP and WebSocket, each step shown with its time.

Everything goes through the front door, as a stranger's client would do it: nothing here reads the database.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import aiohttp
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from domain.core.settings import settings
from server import demo_logins
from server.demo_client import ANSWER_TIMEOUT_S, Client, Stop
from server.demo_documents import (
    AGAIN,
    FLOW,
    MARKET,
    PAY,
    SAVED,
    SHELF,
    SIGN_IN,
    SIGN_OUT,
    START,
    WATCH,
)

SHOP = "demo"
EMAIL = "you@example.com"
MERCHANT = "merchant@demo.test"
GOODS_TIMEOUT_S = 30.0
PAGE_SIZE = 50

# Kinds of events after which nothing more comes without a person.
_ENDS = {
    "DELIVERED": "",
    "HELD": "The payment is looked at by the rules of risk; the order waits.",
    "SHORT": "Paid, and the goods ran out meanwhile: they follow with new stock, or the money comes back.",
    "DECLINED": "The provider declined. Nothing was taken.",
    "FAILED": "The provider could not do it. Nothing was taken.",
    "MISMATCH": "The provider reports another amount than was asked: the money is kept apart until it is explained.",
    "PARTIAL": "Only a part was paid: the rest can still be paid, or the part comes back.",
    "DELIVERING": "Paid. These goods are made by hand: you are told when they are ready.",
}
_WORDS = {
    "PLACED": "order placed",
    "STARTED": "payment started",
    "PAID": "callback heard, order paid",
    "DELIVERED": "goods delivered",
    "UNKNOWN": "the provider does not answer: its word is awaited, nothing is charged twice",
    "LATE": "the money came late",
    "OVERPAID": "too much was paid",
}
_LEGS = {
    "merchant": "the merchant, available now",
    "commission": "the platform's commission",
    "reserve": "kept back for refunds, then the merchant's",
    "tax": "tax",
    "debt": "repays what the merchant owes",
    "affiliate": "the affiliate",
    "surplus": "goes back to the buyer",
    "withholding": "withheld",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What to buy, how and from where; empty parts are chosen from what the platform offers first.

    `again`: save the method and buy the same once more with one call.
    """

    country: str | None = None
    currency: str | None = None
    quantity: int = 1
    product: str | None = None
    method: str | None = None
    shop: str = SHOP
    again: bool = False

    def tidy(self) -> Wish:
        """Codes in capitals, as the contract writes them."""
        return replace(
            self,
            country=self.country and self.country.upper(),
            currency=self.currency and self.currency.upper(),
        )


@dataclass
class Steps:
    """The printed steps; `mark` starts the clock of the next one."""

    console: Console
    begun_s: float = field(default_factory=time.perf_counter)
    _last_s: float = field(default_factory=time.perf_counter)

    def mark(self) -> None:
        """The next step is timed from now."""
        self._last_s = time.perf_counter()

    def say(self, name: str, text: str) -> None:
        """One line: the step, how long it took, what came of it."""
        took_ms = (time.perf_counter() - self._last_s) * 1000
        line = Table.grid(padding=(0, 2))
        line.add_column(width=14, style="bold cyan")
        line.add_column(width=9, justify="right", style="dim")
        line.add_column(overflow="fold")
        line.add_row(name, f"{took_ms:,.1f} ms", text)
        self.console.print(line)
        self.mark()


async def buy(url: str, wish: Wish | None = None, *, console: Console | None = None) -> int:
    """Buy from the platform at `url`; 0 when the goods came, 1 when they did not (the reason is printed)."""
    wish = (wish or Wish()).tidy()
    out = console or Console(highlight=False)
    timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
    headers = {"X-Kami-From": wish.country} if wish.country else {}
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as http:
            return await _buy(Client(http, url.rstrip("/")), wish, Steps(out))
    except Stop as stop:
        out.print(f"\n[bold red]The purchase stopped.[/] {stop}")
    except (aiohttp.ClientConnectionError, ConnectionError):
        out.print(
            f"\n[bold red]Nothing answers at {url}.[/]\n"
            "Start the platform first with [bold]make run[/] (or bin/kami up), or name another one:"
            " kami demo buy --url http://…"
        )
    except (TimeoutError, aiohttp.ClientError) as error:
        out.print(
            f"\n[bold red]{url} did not answer as expected[/] ({type(error).__name__})."
            " [bold]bin/kami doctor[/] says what is wrong with the house."
        )
    return 1


async def _buy(client: Client, wish: Wish, steps: Steps) -> int:
    steps.console.print(f"\nBuying at [bold]{client.url}[/]\n")
    steps.mark()
    market = (await client.ask(MARKET, {"country": wish.country}))["market"]
    methods = ", ".join(one["code"] for one in market["paymentMethods"]) or "none"
    steps.say(
        "market",
        f"{market['country']} · {market['currency']} · {market['language']} ({market['source'].lower()});"
        f" ways to pay: {methods}",
    )
    variant = await _choose(client, wish, steps)
    begun = await _start(client, wish, variant, steps)
    async with client.watch(WATCH, _keys(begun)) as frames:
        steps.say("orderEvents", "subscribed over WebSocket")
        coming = asyncio.ensure_future(_goods(frames, steps))
        clicked_s = time.perf_counter()
        try:
            await _pay(client, wish, begun, steps)
            goods = await coming
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
    await _done(client, begun, goods, clicked_s, steps)
    if wish.again:
        await _again(client, begun, steps)
    return 0


async def _again(client: Client, begun: Mapping[str, Any], steps: Steps) -> None:
    """The same once more by the method that was saved: one call, then the new order's events."""
    steps.mark()
    saved = (await client.ask(SAVED, _keys(begun)))["order"]["savedMethods"]
    if not saved:
        raise Stop("The provider saved nothing to buy again with.")
    steps.say("savedMethods", saved[0]["label"])
    wish = {"orderId": begun["order"]["id"], "accessKey": begun["accessKey"]}
    wish |= {"savedMethodId": saved[0]["id"], "expectedTotal": begun["order"]["total"]}
    clicked_s = time.perf_counter()
    paid = _result(await client.ask(AGAIN, {"input": wish, "key": uuid.uuid4().hex}), "buyAgain")
    steps.say("buyAgain", f"order {paid['order']['number']}: {paid['status'].lower()}")
    async with client.watch(WATCH, _keys(paid)) as frames:
        goods = await _goods(frames, steps)
    await _done(client, paid, goods, clicked_s, steps)


def _keys(begun: Mapping[str, Any]) -> dict[str, Any]:
    """What opens an order."""
    return {"id": begun["order"]["id"], "key": begun["accessKey"]}


async def _done(
    client: Client, begun: Mapping[str, Any], goods: list[str], clicked_s: float, steps: Steps
) -> None:
    took_ms = (time.perf_counter() - clicked_s) * 1000
    order = begun["order"]
    steps.console.print(
        Panel("\n".join(goods), title="Your goods", title_align="left", expand=False, style="green")
    )
    await _flow(client, begun, steps)
    steps.console.print(
        f"From the click on pay to the goods: [bold]{took_ms:,.0f} ms[/]. Order {order['number']}:"
    )
    # One line however narrow the window: a broken address opens nothing.
    steps.console.print(
        f"{client.url}/orders/{order['id']}#accessKey={begun['accessKey']}\n", soft_wrap=True
    )


async def _choose(client: Client, wish: Wish, steps: Steps) -> Mapping[str, Any]:
    """The first variant on the shelf, or the first whose titles contain what was asked for."""
    asked = {"handle": wish.shop, "first": PAGE_SIZE, "country": wish.country}
    shop = (await client.ask(SHELF, asked))["shop"]
    if shop is None:
        raise Stop(
            f"There is no shop “{wish.shop}” here.\nkami seed makes the demo shop (development only)."
        )
    shelf = [(product, one) for product in shop["products"]["nodes"] for one in product["variants"]]
    words = (wish.product or "").casefold()
    fitting = [
        (product, one)
        for product, one in shelf
        if words in f"{product['title']} {one['title']} {one['id']}".casefold()
    ]
    if not fitting:
        offers = ", ".join(sorted({product["title"] for product, _ in shelf}))
        raise Stop(f"Nothing on the shelf is called “{wish.product}”.\nThere are: {offers}")
    product, variant = fitting[0]
    price = variant["price"]
    steps.say(
        "shop",
        f"{shop['name']}: {wish.quantity} × {product['title']}, {variant['title']} at"
        f" {price['amount']} {price['currency']}",
    )
    found: Mapping[str, Any] = variant
    return found


async def _start(
    client: Client, wish: Wish, variant: Mapping[str, Any], steps: Steps
) -> Mapping[str, Any]:
    cart: dict[str, Any] = {
        "shop": wish.shop,
        "lines": [{"variantId": variant["id"], "quantity": wish.quantity}],
        "contact": {"email": EMAIL},
    }
    cart |= {"country": wish.country} if wish.country else {}
    cart |= {"currency": wish.currency} if wish.currency else {}
    begun = _result(
        await client.ask(START, {"input": cart, "key": uuid.uuid4().hex}), "startCheckout"
    )
    total = begun["order"]["total"]
    steps.say(
        "startCheckout", f"order {begun['order']['number']}, {total['amount']} {total['currency']}"
    )
    if quote := begun["quote"]:
        steps.say(
            "",
            f"[dim]1 {quote['base']} = {quote['rate']} {quote['target']}, locked; reference"
            f" {quote['referenceRate']} ({quote['source']}), spread {quote['spreadBps']} bps[/]",
        )
    return begun


async def _pay(client: Client, wish: Wish, begun: Mapping[str, Any], steps: Steps) -> None:
    offered = [one["code"] for one in begun["paymentMethods"]]
    method = wish.method or ("sandbox" if "sandbox" in offered else next(iter(offered), None))
    if method is None:
        raise Stop("No way to pay takes this currency.\nTry another one with --currency.")
    payment: dict[str, Any] = {
        "orderId": begun["order"]["id"],
        "accessKey": begun["accessKey"],
        "method": method,
    }
    if wish.again:
        if not any(one["canSave"] for one in begun["paymentMethods"] if one["code"] == method):
            raise Stop(f"{method} cannot be saved.\nTry another --method, or without --again.")
        payment["saveMethod"] = True
    paid = _result(await client.ask(PAY, {"input": payment, "key": uuid.uuid4().hex}), "pay")
    steps.say("pay", f"by {paid['method']['name']}: {paid['status'].lower().replace('_', ' ')}")
    url = (paid["nextAction"] or {}).get("url")
    if url is None:
        return
    if paid["method"]["code"] != "sandbox":
        steps.console.print(f"  Open this page to pay: [bold]{url}[/]")
        return
    # The sandbox's hosted page, pressed as a person would: the callback comes from the provider.
    async with client.http.post(f"{url}/pay", allow_redirects=False) as pressed:
        if pressed.status not in (302, 303):
            raise Stop(
                f"The provider's page says {pressed.status}.\nIs the sandbox running? bin/kami doctor"
            )
    steps.say("provider", "pressed “pay” on its page; it calls back")


async def _goods(frames: AsyncIterator[Mapping[str, Any]], steps: Steps) -> list[str]:
    """Show each event as it comes until the goods are there. Errors: Stop."""
    try:
        async with asyncio.timeout(GOODS_TIMEOUT_S):
            async for frame in frames:
                if frame["__typename"] != "OrderEvent":
                    continue
                kind = frame["kind"]
                steps.say(
                    f"event {frame['sequence']}", _WORDS.get(kind, kind.lower().replace("_", " "))
                )
                if kind == "DELIVERED":
                    return [good["content"] for good in frame["order"]["goods"]]
                if kind in _ENDS:
                    raise Stop(_ENDS[kind])
    except TimeoutError:
        raise Stop(
            f"No goods within {GOODS_TIMEOUT_S:.0f} s; the order keeps waiting, nothing is lost."
            "\nbin/kami doctor shows whether the workers and the sandbox run."
        ) from None
    raise Stop("The stream of events ended.\nbin/kami doctor")


async def _split(client: Client, begun: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The order as its merchant sees it, when this is the demo shop of this box, else as its buyer does."""
    is_here = client.url == settings().public_url  # the login of this box is for this box alone
    password = demo_logins.read(settings().data_dir).get(MERCHANT) if is_here else None
    if password is not None:
        login = {"email": MERCHANT, "password": password}
        session = (await client.ask(SIGN_IN, {"input": login}))["signIn"]
        if token := session.get("token"):
            seen = await client.ask(FLOW, {"id": begun["order"]["id"]}, token=token)
            await client.ask(SIGN_OUT, {}, token=token)
            if seen["order"] is not None:
                return seen["order"], "the merchant"
    return (await client.ask(FLOW, _keys(begun)))["order"], "the buyer"


async def _flow(client: Client, begun: Mapping[str, Any], steps: Steps) -> None:
    order, who = await _split(client, begun)
    total = order["total"]
    table = Table(
        title=f"Where {total['amount']} {total['currency']} went, as {who} sees it",
        title_justify="left",
    )
    table.add_column("leg")
    table.add_column("amount", justify="right")
    table.add_column("share", justify="right")
    table.add_column("whose")
    for leg in order["fundsFlow"]:
        share = 100 * Decimal(leg["amount"]["amount"]) / Decimal(total["amount"])
        table.add_row(
            leg["leg"], leg["amount"]["amount"], f"{share:.1f} %", _LEGS.get(leg["leg"], "")
        )
    steps.console.print(table)


def _result(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The thing a mutation made. Errors: Stop with the words of the problem."""
    found: Mapping[str, Any] = data[name]
    if "code" in found:
        words = [found["message"], *(one["message"] for one in found.get("problems", ()))]
        raise Stop(f"{name} says {found['code']}: {' '.join(words)}")
    return found
