"""Goods leave the house in bulk only by two people, once, audited before they are opened (CASES H28, H29)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette

from domain import identity
from domain.core import clock, ids
from domain.core import db as core
from domain.identity import Role
from server import exports
from tests import make, rows
from tests.api import second_factor as two
from tests.api.desk import Desk, code, member

APP = Starlette(routes=exports.routes())
PROBLEM = "... on Problem { code path } ... on InvalidInput { problems { path } }"
PROPOSE = f"""mutation ($input: ProposeGoodsExportInput!, $key: String!) {{
  proposeGoodsExport(input: $input) @idempotent(key: $key) {{
    __typename ... on Approval {{ id kind request requestHash }} {PROBLEM} }} }}"""
APPROVE = f"""mutation ($input: ApproveGoodsExportInput!, $key: String!) {{
  approveGoodsExport(input: $input) @idempotent(key: $key) {{
    __typename ... on GoodsExport {{ token expiresAt }} {PROBLEM} }} }}"""
WAITING = "query ($id: ID!) { goodsExports(merchantId: $id, first: 5) { nodes { id kind } } }"


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    yield
    two.restore()


async def propose(desk: Desk, of: make.Shop, count: int = 2, **more: Any) -> dict[str, Any]:
    """Ask for an export; the union member."""
    asked = {"variantId": ids.encode("var", of.variant_id), "count": count, "reason": "audit"}
    body = await desk.data(PROPOSE, {"input": {**asked, **more}, "key": ids.uuid7().hex})
    found: dict[str, Any] = body["proposeGoodsExport"]
    return found


async def approve(
    desk: Desk, asked: dict[str, Any], *, digest: str | None = None, key: str | None = None
) -> dict[str, Any]:
    """Approve it; the union member."""
    given = {"approvalId": asked["id"], "requestHash": digest or asked["requestHash"]}
    body = await desk.data(APPROVE, {"input": given, "key": key or ids.uuid7().hex})
    found: dict[str, Any] = body["approveGoodsExport"]
    return found


async def fetch(desk: Desk, body: bytes) -> tuple[int, dict[str, str], str]:
    """POST /exports: status, headers, text."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(b"authorization", f"Bearer {desk.token}".encode())] if desk.token else []
    scope = {"type": "http", "method": "POST", "path": "/exports", "query_string": b""}
    await APP({**scope, "headers": given, "client": ("203.0.113.9", 4711)}, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    text = b"".join(message.get("body", b"") for message in sent).decode()
    return sent[0]["status"], headers, text


def body_of(token: str) -> bytes:
    return json.dumps({"token": token}).encode()


async def states() -> dict[str, int]:
    found = await core.fetch("SELECT state::text, count(*) FROM card_key GROUP BY 1")
    return {row["state"]: row["count"] for row in found}


async def actions() -> list[str]:
    return [row["action"] for row in await core.fetch("SELECT action FROM audit_log ORDER BY no")]


async def test_h28_h29_two_people_one_download(db: None) -> None:
    shop = await make.shop(keys=5)
    ann, ben = await member(shop), await member(shop, Role.OWNER)

    asked = await propose(ann, shop)
    listed = (await ben.data(WAITING, {"id": ids.encode("mer", shop.merchant_id)}))["goodsExports"]
    assert listed["nodes"] == [{"id": asked["id"], "kind": "goods.export"}]
    assert asked["request"] == {
        "variantId": ids.encode("var", shop.variant_id),
        "count": 2,
        "reason": "audit",
    }
    ready = await approve(ben, asked)
    assert await states() == {"available": 5}  # nothing has left yet
    status, headers, text = await fetch(ben, body_of(ready["token"]))

    assert status == 200
    assert headers["content-type"] == "text/csv; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    lines = text.split("\r\n")
    assert len(set(lines)) == 4 and lines[-1] == ""  # two keys and a honey key among them
    assert all(re.fullmatch("KEY-[0-9]{10}", line) for line in lines[:-1])
    assert await states() == {"available": 3, "locked": 2, "honey": 1}
    assert await actions() == ["goods.export.asked", "goods.export.approved", "stock.export"]
    last = await core.row("SELECT * FROM audit_log ORDER BY no DESC LIMIT 1")
    assert last is not None
    assert (last["facts_json"], last["address"]) == ({"keys": 2}, "203.0.113.9")
    assert (await ben.data(WAITING, {"id": ids.encode("mer", shop.merchant_id)}))["goodsExports"][
        "nodes"
    ] == []


async def test_h28_it_is_fetched_once_by_whoever_comes_together(db: None) -> None:
    shop = await make.shop(keys=5)
    ann, ben = await member(shop), await member(shop)
    ready = await approve(ben, await propose(ann, shop))

    done = await asyncio.gather(*(fetch(ben, body_of(ready["token"])) for _ in range(5)))

    statuses = sorted(status for status, _, _ in done)
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {409, 410}  # while the first is at it, and after
    assert not any("KEY-" in text for status, _, text in done if status != 200)
    again = await fetch(ben, body_of(ready["token"]))
    assert again[::2] == (410, '{"code":"APPROVAL_CLOSED"}')
    assert await states() == {"available": 3, "locked": 2, "honey": 1}
    assert (await actions()).count("stock.export") == 1


async def test_h29_the_same_person_another_text_or_a_second_time_is_refused(db: None) -> None:
    shop = await make.shop(keys=5)
    ann, ben, cleo = await member(shop), await member(shop), await member(shop)
    asked = await propose(ann, shop)

    assert (await approve(ann, asked))["code"] == "SAME_PERSON"
    assert (await approve(ben, asked, digest="00" * 32))["code"] == "APPROVAL_DIFFERS"
    first = await approve(ben, asked, key="k1")
    assert first["__typename"] == "GoodsExport"
    assert await approve(ben, asked, key="k1") == first  # the same answer again
    assert (await approve(cleo, asked))["code"] == "APPROVAL_CLOSED"
    late = await propose(ann, shop)
    clock.shift(timedelta(hours=25))
    assert (await approve(ben, late))["code"] == "APPROVAL_CLOSED"
    assert await states() == {"available": 5}


async def test_a_token_is_good_for_its_approver_for_ten_minutes(db: None) -> None:
    shop, other = await make.shop(keys=5), await make.shop(keys=0)
    ann, ben, stranger = await member(shop), await member(shop), await member(other)
    token = (await approve(ben, await propose(ann, shop)))["token"]

    for who in (ann, stranger):
        assert (await fetch(who, body_of(token)))[::2] == (404, '{"code":"NOT_FOUND"}')
    assert (await fetch(Desk(None), body_of(token)))[0] == 401
    assert (await fetch(Desk("kami_s_wrong"), body_of(token)))[0] == 401
    assert (await fetch(ben, body_of(f"{token[:-1]}!")))[0] == 404
    clock.shift(timedelta(minutes=11))
    assert (await fetch(ben, body_of(token)))[0] == 404
    assert await states() == {"available": 5}
    assert "stock.export" not in await actions()


async def test_who_lost_the_right_meanwhile_fetches_nothing(db: None) -> None:
    shop = await make.shop(keys=5)
    ann, ben = await member(shop), await member(shop)
    token = (await approve(ben, await propose(ann, shop)))["token"]
    viewer = await identity.viewer(ben.token or "")
    assert viewer is not None

    await identity.grant(shop.merchant_id, viewer.account_id, Role.FINANCE)
    demoted = await fetch(ben, body_of(token))
    await core.execute("DELETE FROM membership WHERE account_id = $1", viewer.account_id)
    identity.forget_viewers()
    gone = await fetch(ben, body_of(token))

    assert (demoted[0], gone[0]) == (403, 404)
    assert await states() == {"available": 5}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"token": 5}', b"x" * 5_000])
async def test_a_body_without_a_token_is_refused(db: None, body: bytes) -> None:
    ben = await member(await make.shop())

    assert (await fetch(ben, body))[::2] == (400, '{"code":"BAD_USER_INPUT"}')


async def test_what_cannot_be_asked_for_is_named(db: None) -> None:
    shop = await make.shop()
    ann = await member(shop)

    for more, path in (
        ({"count": 0}, "count"),
        ({"count": 10_001}, "count"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 201}, "reason"),
    ):
        refused = await propose(ann, shop, **more)
        assert [one["path"] for one in refused["problems"]] == [["input", path]]
    assert await core.value("SELECT count(*) FROM approval") == 0


async def test_h01_only_who_stocks_the_shop(db: None) -> None:
    shop, other = await make.shop(keys=5), await make.shop()
    ann = await member(shop)
    asked = await propose(ann, shop)
    given = {"approvalId": asked["id"], "requestHash": asked["requestHash"]}
    merchant = ids.encode("mer", shop.merchant_id)

    support, stranger = await member(shop, Role.SUPPORT), await member(other, Role.OWNER)
    assert code(await support.ask(APPROVE, {"input": given, "key": "k"})) == "FORBIDDEN"
    assert code(await support.ask(WAITING, {"id": merchant})) == "FORBIDDEN"
    assert (await approve(stranger, asked))["code"] == "NOT_FOUND"
    assert (await propose(stranger, shop))["code"] == "NOT_FOUND"
    assert code(await stranger.ask(WAITING, {"id": merchant})) == "NOT_FOUND"


async def test_h28_it_takes_a_fresh_second_factor(db: None) -> None:
    shop = await make.shop(keys=5)
    ann = await member(shop)
    person = await two.signed_in()
    account = await identity.account_by_email(two.EMAIL)
    assert account is not None
    await identity.grant(shop.merchant_id, account.id, Role.OWNER)
    await two.protected(person)
    asked = await propose(ann, shop)
    given = {"approvalId": asked["id"], "requestHash": asked["requestHash"]}
    before = await rows.everything(but=("session",))

    refused = await person.refusal(APPROVE, input=given, key="k")
    after = await rows.everything(but=("session",))
    await person.do(two.VERIFY, code=person.code())
    done = await person.do(APPROVE, input=given, key="k")

    assert (refused["code"], refused["maxAge"]) == ("MFA_REQUIRED", 900)
    assert rows.changed(before, after) == set()
    assert done["__typename"] == "GoodsExport"
