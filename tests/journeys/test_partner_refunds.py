"""An app refunds for a merchant: with the scope, within its limit, once per key, and never beyond (RFC 9396)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain import partners
from domain.core import clock
from domain.core import db as core
from domain.core.money import Money
from domain.identity import Acr, Proof, Role, Viewer
from domain.partners import Asked, Limit
from tests import make
from tests.journeys.refunding import REFUND, settle, sold
from tests.platform import Platform, running
from tests.server.oauth_client import FAPI, Browser, Partner, person, registered

GIVEN = "SELECT coalesce(sum(amount_minor), 0) FROM refund WHERE state = 'succeeded'"


async def allowed(by: Browser, app: Partner, most: str | None, *scopes: str) -> Viewer:
    """The app under a grant of client credentials, as the door knows it."""
    found = await partners.app(app.client_id)
    assert found is not None
    limits = () if most is None else (Limit("refunds:write", Money.parse(most, "USD")),)
    await partners.allow_client(
        found,
        Asked(scopes, limits=limits),
        merchant_id=by.merchant_id,
        account_id=by.account_id,
        auth_at=clock.now(),
    )
    issued = await partners.as_itself(found, scope=None, jkt="k" * 43)
    viewer = await partners.viewer(issued.access_token)
    assert viewer is not None
    return viewer


async def refund(
    platform: Platform, viewer: Viewer, order_id: str, amount: str, key: str
) -> dict[str, Any]:
    asked = {"orderId": order_id, "amount": {"amount": amount, "currency": "USD"}}
    found: dict[str, Any] = await platform.ask(REFUND, {"input": asked, "key": key}, viewer=viewer)
    return found


def code(answer: dict[str, Any]) -> str:
    if "errors" in answer:
        return str(answer["errors"][0]["extensions"]["code"])
    found = answer["data"]["requestRefund"]
    return str(found.get("code", found["__typename"]))


async def test_an_app_refunds_up_to_its_limit(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as platform:
        shop = await make.shop(price=Money(1_050, "USD"))
        by = await person(shop)
        app = await registered(by, FAPI)
        viewer = await allowed(by, app, "6.00", "refunds:write", "orders:read")
        order_id, _ = await sold(platform, shop)

        first = await refund(platform, viewer, order_id, "4.00", "k1")
        again = await refund(platform, viewer, order_id, "4.00", "k1")
        beyond = await refund(platform, viewer, order_id, "2.01", "k2")
        rest = await refund(platform, viewer, order_id, "2.00", "k3")
        await settle(platform)

        assert [code(one) for one in (first, again, beyond, rest)] == [
            "RefundRequested",
            "RefundRequested",
            "APP_LIMIT_EXCEEDED",
            "RefundRequested",
        ]
        assert await core.value(GIVEN) == 600
        assert await core.value("SELECT used_minor FROM app_limit") == 600
        asked_by = await core.fetch("SELECT DISTINCT asked_by FROM refund")
        assert [row["asked_by"] for row in asked_by] == [f"app:{viewer.session_id}"]


async def test_many_at_once_never_pass_the_limit(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as platform:
        shop = await make.shop(price=Money(1_050, "USD"))
        by = await person(shop)
        app = await registered(by, FAPI)
        viewer = await allowed(by, app, "3.00", "refunds:write", "orders:read")
        order_id, _ = await sold(platform, shop)

        answers = await asyncio.gather(
            *(refund(platform, viewer, order_id, "1.00", f"k{no}") for no in range(8))
        )
        await settle(platform)

        codes = sorted(code(one) for one in answers)
        assert codes == ["APP_LIMIT_EXCEEDED"] * 5 + ["RefundRequested"] * 3
        assert await core.value(GIVEN) == 300


@pytest.mark.parametrize(
    ("role", "scopes", "refusal"),
    [
        (Role.OWNER, ("orders:read",), "INSUFFICIENT_SCOPE"),
        (Role.OWNER, ("refunds:write",), "INSUFFICIENT_SCOPE"),  # asks to see the order as well
        (Role.CATALOGUE, ("refunds:write", "orders:read"), "FORBIDDEN"),
    ],
)
async def test_h20_scope_and_person_both_have_to_allow_it(
    db: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    role: Role,
    scopes: tuple[str, ...],
    refusal: str,
) -> None:
    async with running(tmp_path, monkeypatch) as platform:
        shop = await make.shop(price=Money(1_050, "USD"))
        by = await person(shop, role)
        app = await registered(by, FAPI)
        viewer = await allowed(by, app, None, *scopes)
        order_id, _ = await sold(platform, shop)

        refused = await refund(platform, viewer, order_id, "1.00", "k1")

        assert code(refused) == refusal
        assert await core.value("SELECT count(*) FROM refund") == 0


async def test_h21_a_large_refund_takes_what_the_person_had_proved_lately(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9470: the app sends the person through the sign-in again; the new grant carries the proof."""
    monkeypatch.setenv("KAMI_MFA_REQUIRED", "true")
    monkeypatch.setenv("KAMI_REFUND_STEP_UP_MINOR", "500")
    async with running(tmp_path, monkeypatch) as platform:
        shop = await make.shop(price=Money(1_050, "USD"))
        by = await person(shop)
        app = await registered(by, FAPI)
        viewer = await allowed(by, app, None, "refunds:write", "orders:read")
        order_id, _ = await sold(platform, shop)

        small = await refund(platform, viewer, order_id, "1.00", "k1")
        large = await refund(platform, viewer, order_id, "6.00", "k2")
        assert viewer.proof.acr == "pwd"
        fresh = replace(viewer, proof=replace(viewer.proof, acr=Acr.MFA))
        stale_at = clock.now() - timedelta(minutes=16)
        stale = replace(viewer, proof=Proof(Acr.MFA, stale_at, has_factor=True))
        old = await refund(platform, stale, order_id, "6.00", "k3")
        proved = await refund(platform, fresh, order_id, "6.00", "k4")

        assert code(small) == "RefundRequested"
        for one in (large, old):
            told = one["errors"][0]["extensions"]
            assert (told["code"], told["maxAge"]) == ("MFA_REQUIRED", 900)
            assert told["acrValues"] == ["mfa", "phr"]
        assert code(proved) == "RefundRequested"
