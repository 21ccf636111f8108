"""A guest who bought opens an account afterwards: by the mail's link and a form without a script, to the goods."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any

import aiohttp

from domain.core import ids
from tests import make
from tests.journeys.shoppers import Trip, shoppers
from tests.live import LiveServer
from tests.platform import START

PASSWORD = "correct horse battery"
SIGN_UP = """mutation ($input: SignUpInput!, $key: String!) {
  signUp(input: $input) @idempotent(key: $key) { __typename ... on LinkSent { email } } }"""
MINE = """{ viewer { email isVerified sessions { isCurrent }
  orders(first: 10) { nodes { number status goods { content } } } } }"""


async def mail_to(http: aiohttp.ClientSession, live: LiveServer, recipient: str) -> str:
    """The newest mail to somebody that leads to a page of accounts, once it is there."""
    async with asyncio.timeout(20):
        while True:
            async with http.get(f"{live.url}/mailbox") as answer:
                listed = await answer.text()
            for row in listed.split("<tr>"):
                if recipient in row and (found := re.search(r'href="/mailbox/([^"]+)"', row)):
                    async with http.get(f"{live.url}/mailbox/{found[1]}") as answer:
                        page = await answer.text()
                    if "/account/" in page:
                        return page
            await asyncio.sleep(0.2)


async def test_e19_a_guest_opens_an_account_and_finds_the_goods(
    live_server: LiveServer, live_db: None
) -> None:
    shop = await make.shop(keys=3)
    email = f"late-{ids.uuid7().hex[-10:]}@example.com"
    async with shoppers(live_server) as crowd:
        cart: dict[str, Any] = {
            "shop": shop.handle,
            "lines": [{"variantId": ids.encode("var", shop.variant_id), "quantity": 1}],
            "contact": {"email": email.upper()},
            "currency": shop.price.currency,
        }
        begun = (await crowd.insist(START, {"input": cart, "key": email}))["startCheckout"]
        trip = Trip("", begun["order"]["id"], begun["accessKey"])
        await crowd.pay(trip.order_id, trip.access_key)
        await crowd.until(trip, "DELIVERED")

        http = crowd.http
        given = {"email": email, "password": PASSWORD, "locale": "ja"}
        asked = await crowd.insist(SIGN_UP, {"input": given, "key": f"{email}-up"})
        page = await mail_to(http, live_server, email)
        links = re.findall(r"https?://[^\s<\"]+/account/verify\?token=[\w-]+", page)
        async with http.get(links[0], headers={"accept-language": "ja"}) as answer:
            form = await answer.text()
        fields = {
            name: unescape(value)
            for name, value in re.findall(r'name="(\w+)"[^>]* value="([^"]*)"', form)
        }
        async with http.post(
            f"{live_server.url}/account/verify",
            data={**fields, "password": PASSWORD},
            headers={"accept-language": "ja", "sec-fetch-site": "same-origin"},
        ) as answer:
            done, cookies = await answer.text(), answer.headers.getall("set-cookie")
        held = "; ".join(one.partition(";")[0] for one in cookies)
        seen = (await crowd.insist(MINE, {}, cookie=held))["viewer"]

    assert asked["signUp"] == {"__typename": "LinkSent", "email": email}
    assert "メールアドレスのご確認" in page
    assert fields["email"] == email
    assert "アドレスを確認しました" in done
    assert (seen["email"], seen["isVerified"], seen["sessions"]) == (
        email,
        True,
        [{"isCurrent": True}],
    )
    (order,) = seen["orders"]["nodes"]
    assert order["status"] == "DELIVERED"
    assert [good["content"][:4] for good in order["goods"]] == ["KEY-"]
