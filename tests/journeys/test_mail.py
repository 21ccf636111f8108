"""A purchase over HTTP ends in the mailbox: goods to the buyer, a sale to the merchant, once each."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import aiohttp

from domain.core import db as core
from domain.core import ids
from tests.live import LiveServer

START = """
mutation ($input: StartCheckoutInput!, $key: String!) {
  startCheckout(input: $input) @idempotent(key: $key) {
    ... on Checkout { accessKey order { id number } }
    ... on Problem { code message path }
  }
}
"""
PAY = """
mutation ($input: PayInput!, $key: String!) {
  pay(input: $input) @idempotent(key: $key) {
    ... on Payment { status }
    ... on Problem { code message path }
  }
}
"""


async def ask(client: aiohttp.ClientSession, live: LiveServer, query: str, **variables: Any) -> Any:
    body = {"query": query, "variables": variables}
    async with client.post(f"{live.url}/graphql", json=body) as answer:
        found = await answer.json()
    assert "errors" not in found, found
    return next(iter(found["data"].values()))


async def mails(client: aiohttp.ClientSession, live: LiveServer, number: str) -> list[str]:
    """The texts of the mails about an order, as the mailbox shows them."""
    async with client.get(f"{live.url}/mailbox") as answer:
        names = re.findall(r'href="/mailbox/([^"]+)"', await answer.text())
    found = []
    for name in names:
        async with client.get(f"{live.url}/mailbox/{name}") as answer:
            page = await answer.text()
        if number in page:
            found.append(page)
    return found


async def test_c01_e14_a_sale_is_told_once_to_each(live_server: LiveServer, live_db: None) -> None:
    variant_id = await core.value(
        "SELECT t.variant_id FROM variant_text t WHERE t.language = 'en' AND t.title = '500 Star Coins'"
    )
    buyer = f"mail-{ids.uuid7().hex[-8:]}@example.com"
    key = buyer
    cart = {
        "shop": "demo",
        "lines": [{"variantId": ids.encode("var", variant_id), "quantity": 1}],
        "contact": {"email": buyer, "locale": "es"},
        "currency": "USD",
    }
    async with aiohttp.ClientSession() as client:
        begun = await ask(client, live_server, START, input=cart, key=key)
        order = begun["order"]
        paid = {"orderId": order["id"], "accessKey": begun["accessKey"], "method": "sandbox"}
        await ask(client, live_server, PAY, input=paid, key=f"{key}-pay")
        told: list[str] = []
        for _ in range(100):
            told = await mails(client, live_server, order["number"])
            if len(told) >= 2:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.5)  # long enough for a second turn of the loops
        told = await mails(client, live_server, order["number"])

    to_buyer = [page for page in told if buyer in page]
    to_merchant = [page for page in told if "merchant@demo.test" in page]
    assert (len(told), len(to_buyer), len(to_merchant)) == (2, 1, 1)
    assert "Sus artículos están listos" in to_buyer[0]
    assert f"/orders/{order['id']}#accessKey={begun['accessKey']}" in to_buyer[0]
    assert "STAR-" not in "".join(told)  # the goods themselves are never mailed
    assert "accessKey" not in to_merchant[0]
