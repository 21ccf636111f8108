"""docs/guides/catalogue.md, sent as it is: each piece works, in its order, from nothing to a sale."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from domain import fx, identity, merchants
from domain.core import db as core
from domain.identity import Role
from tests.api.desk import Desk

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "catalogue.md"
PIECE = re.compile(r"```graphql\n(.*?)```", re.DOTALL)
PASSWORD = "correct horse battery"


async def test_the_guide_leads_from_nothing_to_a_sale(db: None) -> None:
    fx.forget()
    merchant_id = await merchants.open_merchant(
        "Corner", base_ccy="USD", country="SG", contact_email="corner@example.com"
    )
    account = await identity.register("corner@example.com", PASSWORD)
    await identity.grant(merchant_id, account, Role.OWNER)
    known = {"EMAIL": "corner@example.com", "PASSWORD": PASSWORD}
    desk = Desk(None)
    answers: dict[str, Any] = {}

    for piece in PIECE.findall(GUIDE.read_text("utf-8")):
        document = re.sub(r'"([A-Z_]+)"', lambda at: f'"{known.get(at[1], at[1])}"', piece)
        ((name, answer),) = (await desk.data(document)).items()
        answers[name] = answer
        assert "code" not in answer or name == "createCoupon", (name, answer)
        if name == "signIn":
            desk = Desk(answer["token"])
            known["MERCHANT_ID"] = answer["viewer"]["memberships"][0]["merchantId"]
        elif name.startswith("create"):
            known[f"{name.removeprefix('create').upper()}_ID"] = answer["id"]

    assert answers["importCards"] == {"state": "DONE", "added": 3}
    assert answers["updateProduct"] == {"version": 2, "state": "ACTIVE"}
    (product,) = answers["merchantProducts"]["nodes"]
    assert product["variants"][0]["stock"]["available"] == 3
    assert answers["startCheckout"]["order"]["total"] == {"amount": "8.82", "currency": "USD"}
    assert await core.value("SELECT count(*) FROM orders") == 1
