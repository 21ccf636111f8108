"""Query costs of apps: one bucket for an app in a merchant, whoever let it in, and no other's (API.md rule 8, J25)."""

from __future__ import annotations

from typing import Any

import orjson

from domain import partners
from domain.core import clock
from domain.identity import Viewer
from domain.partners import Asked
from resolvers.context import Context
from schema.root import schema
from server.graphql.door import Door
from server.graphql.limits import LocalBuckets, Size
from server.graphql.request import Asked as Request
from tests import make
from tests.server.oauth_client import SECRET, Browser, Partner, person, registered

COSTS_ONE = "{ market { currency } }"


async def acting(app: Partner, by: Browser) -> Viewer:
    """The app under a grant of this person's consent."""
    found = await partners.app(app.client_id)
    assert found is not None
    await partners.allow_client(
        found,
        Asked(("orders:read",)),
        merchant_id=by.merchant_id,
        account_id=by.account_id,
        auth_at=clock.now(),
    )
    viewer = await partners.viewer(
        (await partners.as_itself(found, scope=None, jkt=None)).access_token
    )
    assert viewer is not None
    return viewer


async def asks(door: Door, viewer: Viewer | None, times: int) -> list[Any]:
    """What is left after each question, or the code of the refusal."""
    told = []
    for _ in range(times):
        context = Context(request_id="r", address="203.0.113.9", viewer=viewer)
        body = orjson.loads((await door.answer(Request(COSTS_ONE), context)).body)
        if "errors" in body:
            told.append(body["errors"][0]["extensions"]["code"])
        else:
            told.append(body["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"])
    return told


async def test_j25_a_bucket_is_an_apps_in_one_merchant(db: None) -> None:
    shop, elsewhere = await make.shop(), await make.shop()
    by, colleague, stranger = await person(shop), await person(shop), await person(elsewhere)
    app, other = await registered(by, SECRET), await registered(by, SECRET)
    mine, again = await acting(app, by), await acting(app, colleague)
    theirs, beside = await acting(app, stranger), await acting(other, by)
    now = [0.0]
    door = Door(schema, buckets=LocalBuckets(Size(3, 1), now=lambda: now[0]))

    first = await asks(door, mine, 2)
    shared = await asks(door, again, 2)  # another grant, another person, the same merchant

    assert (first, shared) == ([2, 1], [0, "THROTTLED"])
    assert await asks(door, theirs, 1) == [2]
    assert await asks(door, beside, 1) == [2]
    assert await asks(door, None, 1) == [2]
    assert await asks(door, mine, 1) == ["THROTTLED"]
    now[0] = 1.0
    assert await asks(door, mine, 1) == [0]
