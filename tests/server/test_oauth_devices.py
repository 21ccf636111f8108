"""Devices (RFC 8628): a code on a screen, a person elsewhere, and a device that waits its turn."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from domain.core import db as core
from domain.core import ids
from domain.core.settings import settings
from tests import make
from tests.server.oauth_client import PUBLIC, SECRET, Answer, Browser, Partner, person, registered
from tests.server.test_oauth_codes import orders

KIND = "urn:ietf:params:oauth:grant-type:device_code"


async def started(app: Partner, **form: str) -> Any:
    answer = await app.call("/oauth/device_authorization", form)
    assert answer.status == 200, answer.body
    return answer.json


async def poll(app: Partner, device: Any) -> Answer:
    """One poll, in time."""
    await core.execute("UPDATE app_device SET polled_at = NULL")
    return await app.token(grant_type=KIND, device_code=device["device_code"])


async def decide(by: Browser, device: Any, word: str = "yes") -> Answer:
    page = await by.arrive(f"/oauth/device?user_code={device['user_code']}")
    assert page.status == 200, page.text
    return await by.submit(page, word=word, merchant=ids.encode("mer", by.merchant_id))


async def test_a_till_is_let_in_once(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app, other = await registered(by, SECRET), await registered(by, SECRET)
    device = await started(app, scope="orders:read")
    waiting = await poll(app, device)
    stolen = await poll(other, device)

    done = await decide(by, device)
    told = await poll(app, device)
    again = await poll(app, device)

    assert device["verification_uri"] == f"{settings().public_url}/oauth/device"
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", device["user_code"])
    assert (device["interval"], device["expires_in"]) == (5, 600)
    assert (waiting.status, waiting.json["error"]) == (400, "authorization_pending")
    assert (stolen.status, stolen.json["error"]) == (400, "expired_token")
    assert done.status == 200
    assert told.json["scope"] == "orders:read"
    assert await orders(by, told.json["access_token"]) == []
    assert (again.status, again.json["error"]) == (400, "expired_token")
    assert await core.value("SELECT kind FROM app_grant") == "device"


async def test_a_device_that_asks_many_times_at_once_is_let_in_once(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, SECRET)
    device = await started(app)
    await decide(by, device)

    answers = await asyncio.gather(
        *(app.token(grant_type=KIND, device_code=device["device_code"]) for _ in range(8))
    )

    assert sorted(one.status for one in answers) == [200] + [400] * 7
    assert await core.value("SELECT count(*) FROM app_family") == 1


async def test_a_device_that_cannot_wait_is_slowed_down(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, SECRET)
    device = await started(app)

    answers = [
        await app.token(grant_type=KIND, device_code=device["device_code"]) for _ in range(3)
    ]

    assert [one.json["error"] for one in answers] == [
        "authorization_pending",
        "slow_down",
        "slow_down",
    ]
    assert await core.value("SELECT interval_s FROM app_device") == 15


async def test_no_is_no_and_a_code_is_decided_once(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, SECRET)
    device = await started(app)
    page = await by.arrive(f"/oauth/device?user_code={device['user_code'].lower()}")
    await decide(by, device, word="no")

    late = await by.submit(page, word="yes", merchant=ids.encode("mer", by.merchant_id))
    refused = await poll(app, device)

    assert late.status == 400
    assert (refused.status, refused.json["error"]) == (400, "access_denied")
    assert await core.value("SELECT count(*) FROM app_grant") == 0


async def test_a_code_that_is_over_lets_nobody_in(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, SECRET)
    device = await started(app)
    await core.execute("UPDATE app_device SET expires_at = clock_timestamp()")

    page = await by.arrive(f"/oauth/device?user_code={device['user_code']}")
    refused = await poll(app, device)

    assert page.status == 404
    assert (refused.status, refused.json["error"]) == (400, "expired_token")


async def test_codes_cannot_be_guessed(db: None) -> None:
    by = await person(await make.shop(keys=1))
    await by.arrive("/oauth/device")

    tries = [await by.get(f"/oauth/device?user_code=BBBB-BBB{letter}") for letter in "BCDFGHJKLMNP"]

    assert [one.status for one in tries] == [404] * 10 + [429] * 2


async def test_an_app_that_did_not_register_it_gets_no_device_code(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)

    answer = await app.call("/oauth/device_authorization", {})

    assert (answer.status, answer.json["error"]) == (400, "unauthorized_client")
