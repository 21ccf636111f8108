"""What it costs to know who may: the same for a page of one order and for a page of a hundred."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from domain import identity, partners
from domain.core import clock, ids
from domain.core import db as core_db
from domain.core.audit import Actor
from domain.identity import Role, Viewer
from domain.partners import Asked as Wanted
from domain.partners import AuthMethod, GrantType, Manifest
from resolvers import access
from resolvers.context import Context
from schema import scopes
from schema.root import schema
from server.graphql.door import Door
from server.graphql.executor import DoorExecutor
from server.graphql.request import Asked
from tests import make

PASSWORD, ADDRESS = "correct horse battery", "203.0.113.9"
SIZES = (1, 20, 100)
PAGE = """
query ($id: ID!, $first: Int!) {
  orders(merchantId: $id, first: $first) {
    nodes { id number status paymentState version createdAt expiresAt total { amount currency } %s }
    pageInfo { hasNextPage }
  }
}"""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a right is asked about, and how often a field has to be waited for."""
    counts: Counter[str] = Counter()

    def watch(owner: Any, name: str, kind: str) -> None:
        real = getattr(owner, name)

        def asked(*args: Any, **more: Any) -> Any:
            counts[kind] += 1
            return real(*args, **more)

        monkeypatch.setattr(owner, name, asked)

    for name in ("may", "may_operate"):
        watch(Viewer, name, "rights")
    for name in ("require_member", "may_see", "may_see_money", "money_of", "buyer_of"):
        watch(access, name, "rights")
    for name in ("check", "check_root", "check_type"):
        watch(scopes, name, "scopes")
    execute = DoorExecutor.execute_field

    def executed(self: DoorExecutor, *args: Any) -> Any:
        found = execute(self, *args)
        counts["fields"] += 1
        counts["awaited"] += self.is_awaitable(found)
        return found

    monkeypatch.setattr(DoorExecutor, "execute_field", executed)
    return counts


async def _owner(of: make.Shop) -> Viewer:
    account_id = await identity.register("owner@example.com", PASSWORD)
    await identity.grant(of.merchant_id, account_id, Role.OWNER)
    signed = await identity.sign_in("owner@example.com", PASSWORD, ADDRESS)
    viewer = await identity.viewer(signed.token)
    assert viewer is not None
    return viewer


async def _app(of: make.Shop, owner: Viewer) -> Viewer:
    manifest = Manifest(
        name="Till",
        redirect_uris=("https://till.example/cb",),
        scopes=("orders:read",),
        grant_types=tuple(str(one) for one in GrantType),
        auth_method=AuthMethod.SECRET,
    )
    actor = Actor("merchant", ids.encode("acc", owner.account_id))
    app_id, _ = await partners.register(
        of.merchant_id, manifest, account_id=owner.account_id, actor=actor
    )
    app = (await partners.apps([app_id]))[app_id]
    await partners.allow_client(
        app,
        Wanted(("orders:read",)),
        merchant_id=of.merchant_id,
        account_id=owner.account_id,
        auth_at=clock.now(),
    )
    viewer = await partners.viewer(
        (await partners.as_itself(app, scope=None, jkt=None)).access_token
    )
    assert viewer is not None
    return viewer


async def _found(
    of: make.Shop, viewer: Viewer, more: str, counted: Counter[str]
) -> list[tuple[dict[str, int], int]]:
    """For each size of page what was counted, and the statements."""
    door, found = Door(schema), []
    for size in (SIZES[0], *SIZES):  # the first time documents are read and plans are made
        context = Context(request_id="test", address=ADDRESS, viewer=viewer)
        variables = {"id": ids.encode("mer", of.merchant_id), "first": size}
        counted.clear()
        async with core_db.statements() as sent:
            answer = await door.answer(Asked(PAGE % more, variables=variables), context)
        assert answer.code is None and answer.body.count(b'"number"') == size, answer.body[:500]
        found.append((dict(counted), len(sent)))
    return found[1:]


@pytest.mark.parametrize("who", ["owner", "app"])
async def test_rights_and_waiting_do_not_grow_with_the_number_of_objects(
    db: None, counted: Counter[str], who: str
) -> None:
    of = await make.shop(keys=0)
    for _ in range(max(SIZES)):
        await make.order(of)
    viewer = await _owner(of)
    if who == "app":
        viewer = await _app(of, viewer)

    one, *others = await _found(of, viewer, "", counted)
    related = await _found(of, viewer, "shop { id } lines { title } payments { status }", counted)

    assert 0 < one[0]["rights"] <= 3 and one[0]["awaited"] <= 3
    assert [found["awaited"] for found, _ in others] == [one[0]["awaited"]] * 2
    for kind in ("rights", "scopes"):
        assert {found.get(kind) for found, _ in [*others, *related]} == {one[0].get(kind)}
    assert len({statements for _, statements in others}) == 1
    assert len({statements for _, statements in related}) == 1
