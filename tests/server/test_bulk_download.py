"""`GET /bulk/{id}.jsonl`: the whole result for who asked for it, as long as they may, and nobody else.

CASES H01, H14, H20.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette

from domain import bulk, identity, partners
from domain.bulk import rules
from domain.core import clock, ids
from domain.core import db as core
from domain.core.audit import Actor
from domain.identity import Role
from domain.partners import Asked, AuthMethod, GrantType, Manifest
from resolvers import bulk as resolve
from resolvers.context import Context
from server import bulk as route
from tests import make
from tests.api.bulk_desk import IMPORT, ORDERS, PRODUCT, Caller, app, newest, person, work
from tests.server.test_uploads import post

APP = Starlette(routes=route.routes())


@dataclass
class Answer:
    """What came back; `is_whole` when the body was ended."""

    status: int
    headers: dict[str, str]
    body: bytes
    pieces: int


async def get(path: str, **headers: str) -> Answer:
    """One request."""
    sent: list[Any] = []
    over = asyncio.Event()

    async def receive() -> Any:
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            over.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await APP(scope, receive, send)
    bodies = [one.get("body", b"") for one in sent[1:]]
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], told, b"".join(bodies), len([one for one in bodies if one]))


async def signed_in(of: make.Shop, role: Role = Role.OWNER) -> tuple[Caller, str]:
    """A member and the token of their session."""
    caller = await person(of, role)
    signed = await identity.sign_in(caller.viewer.email, "correct horse battery", "203.0.113.9")
    return caller, signed.token


async def done(caller: Caller) -> str:
    """A finished export; the path of its result."""
    begun = await caller.export()
    await work()
    return f"/bulk/{begun['id']}.jsonl"


def code(answer: Answer) -> str:
    found: str = orjson.loads(answer.body)["code"]
    return found


async def test_the_result_is_streamed_piece_by_piece_for_who_asked(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PAGE_MAX", 4)
    of = await make.shop()
    owner, token = await signed_in(of)
    placed = [ids.encode("ord", order.id) for order in await newest(of, 10)]
    path = await done(owner)

    answer = await get(path, authorization=f"Bearer {token}")

    assert answer.status == 200
    assert [orjson.loads(line)["id"] for line in answer.body.splitlines()] == placed
    assert answer.pieces == 3
    name = path.removeprefix("/bulk/")
    assert answer.headers == {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="{name}"',
        "content-length": str(len(answer.body)),
        "content-type": "application/jsonl",
        "x-content-type-options": "nosniff",
    }
    audits = await core.fetch(
        "SELECT actor_id, action, facts_json FROM audit_log WHERE action LIKE 'bulk.%' ORDER BY no"
    )
    who = ids.encode("acc", owner.viewer.account_id)
    assert [tuple(row) for row in audits] == [
        (who, "bulk.export", {"root": "orders"}),
        (who, "bulk.fetch", {"rows": 10}),
    ]


async def test_an_empty_list_is_an_empty_body(db: None) -> None:
    owner, token = await signed_in(await make.shop())

    answer = await get(await done(owner), authorization=f"Bearer {token}")

    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


async def test_h01_nobody_else_learns_that_there_is_one(db: None) -> None:
    of, other = await make.shop(), await make.shop()
    owner, token = await signed_in(of)
    _, colleague = await signed_in(of)
    _, stranger = await signed_in(other)
    path = await done(owner)
    waiting = await owner.export()

    found = [
        await get(path),
        await get(path, authorization="Bearer kami_s_nothing"),
        await get(path, cookie=f"kami_session={token}"),
        await get(path, authorization=f"Bearer {colleague}"),
        await get(path, authorization=f"Bearer {stranger}"),
        await get("/bulk/blk_nothing.jsonl", authorization=f"Bearer {token}"),
        await get(f"/bulk/{waiting['id']}.jsonl", authorization=f"Bearer {token}"),
    ]

    assert [one.status for one in found] == [401, 401, 401, 404, 404, 404, 404]
    assert {code(one) for one in found} == {"UNAUTHENTICATED", "NOT_FOUND"}
    assert found[0].headers["www-authenticate"] == "Bearer"
    assert {one.headers["cache-control"] for one in found} == {"no-store"}


async def test_h14_who_has_lost_the_right_fetches_nothing(db: None) -> None:
    of = await make.shop()
    finance, token = await signed_in(of, Role.FINANCE)
    await make.order(of)
    path = await done(finance)
    account = finance.viewer.account_id

    await core.execute("UPDATE membership SET role = 'catalogue' WHERE account_id = $1", account)
    identity.forget_viewers()
    demoted = await get(path, authorization=f"Bearer {token}")
    await core.execute("DELETE FROM membership WHERE account_id = $1", account)
    identity.forget_viewers()
    gone = await get(path, authorization=f"Bearer {token}")

    assert [(one.status, code(one)) for one in (demoted, gone)] == [(403, "FORBIDDEN")] * 2


async def test_what_expired_is_gone(db: None) -> None:
    of = await make.shop()
    owner, token = await signed_in(of)
    await make.order(of)
    path = await done(owner)

    await core.execute("UPDATE bulk_job SET expires_at = clock_timestamp() - interval '1 s'")
    before = await get(path, authorization=f"Bearer {token}")
    await bulk.prune()
    after = await get(path, authorization=f"Bearer {token}")

    assert [(one.status, code(one)) for one in (before, after)] == [(410, "BULK_EXPIRED")] * 2


async def test_h20_an_app_fetches_what_it_asked_for_with_the_scopes_of_now(db: None) -> None:
    of = await make.shop()
    till, other = await app(of, "orders:read"), await app(of, "orders:read")
    begun = await till.export(ORDERS)
    await work()
    job_id = ids.decode(begun["id"], "blk")

    async def fetched(caller: Caller) -> str:
        try:
            await resolve.fetch(caller.viewer, job_id, Context(request_id="till"))
        except Exception as refused:
            return str(getattr(refused, "code", refused))
        return "whole"

    pass_ = till.viewer.app
    assert pass_ is not None
    whole, foreign = await fetched(till), await fetched(other)
    narrow = replace(pass_, scopes=frozenset({"catalogue:read"}))
    less = await fetched(Caller(replace(till.viewer, app=narrow), of))
    # A token of the right form that is nobody's, and one without its proof, are challenged as at the door.
    unknown = await get(f"/bulk/{begun['id']}.jsonl", authorization="DPoP kami_a_" + "x" * 43)

    assert (whole, foreign, less) == ("whole", "NOT_FOUND", "INSUFFICIENT_SCOPE")
    assert unknown.status == 401
    assert 'error="invalid_token"' in unknown.headers["www-authenticate"]


async def test_h20_an_app_sends_its_file_and_fetches_its_result_with_its_token(db: None) -> None:
    of = await make.shop()
    by = await person(of)
    manifest = Manifest(
        name="Till",
        redirect_uris=(),
        scopes=("catalogue:read", "catalogue:write"),
        grant_types=(GrantType.CLIENT,),
        auth_method=AuthMethod.SECRET,
    )
    actor = Actor("merchant", ids.encode("acc", by.viewer.account_id))
    account = by.viewer.account_id
    app_id, _ = await partners.register(of.merchant_id, manifest, account_id=account, actor=actor)
    (made,) = (await partners.apps([app_id])).values()
    await partners.allow_client(
        made,
        Asked(manifest.scopes),
        merchant_id=of.merchant_id,
        account_id=account,
        auth_at=clock.now(),
    )
    tokens = [
        (await partners.as_itself(made, scope=scope, jkt=None)).access_token
        for scope in (None, "catalogue:read")
    ]
    texts = [{"language": "en", "title": "Sent"}]
    line = {"input": {"shopId": ids.encode("shp", of.shop_id), "texts": texts}}

    status, sent = await post([orjson.dumps(line)], tokens[0])
    refused = await post([b"{}"], tokens[1])
    viewer = await partners.viewer(tokens[0])
    assert viewer is not None
    caller = Caller(viewer, of)
    given = {"merchantId": caller.merchant, "mutation": PRODUCT, "uploadId": sent["id"]}
    begun = await caller.data(IMPORT, {"input": given, "key": "app"})
    await work()
    path = f"/bulk/{begun['id']}.jsonl"
    whole = await get(path, authorization=f"Bearer {tokens[0]}")
    less = await get(path, authorization=f"Bearer {tokens[1]}")

    assert (status, refused) == (201, (403, {"code": "FORBIDDEN"}))
    assert orjson.loads(whole.body)["data"]["createProduct"]["texts"] == texts
    assert (less.status, code(less)) == (403, "INSUFFICIENT_SCOPE")
