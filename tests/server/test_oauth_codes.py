"""Codes: only for who may have them, once, for one app, one address, one key; a second use ends what the first made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from domain.core import db as core
from domain.core import ids
from domain.core.settings import settings
from tests import make
from tests.server.oauth_client import (
    CALLBACK,
    FAPI,
    PUBLIC,
    SECRET,
    Browser,
    graphql,
    person,
    registered,
)

ORDERS = "query ($id: ID!) { orders(merchantId: $id, first: 1) { nodes { id } } }"


async def orders(by: Browser, token: str) -> Any:
    """What an app is told about the merchant's orders: data, or the code of the refusal."""
    answer = await graphql(ORDERS, token, variables={"id": ids.encode("mer", by.merchant_id)})
    body = answer.json
    if "errors" in body:
        return body["errors"][0]["extensions"]["code"]
    return body["data"]["orders"]["nodes"]


async def test_code_with_pkce_leads_to_tokens_that_read_orders(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)

    back = await by.allow(app.asking())
    answer = await app.of_code(back.query["code"])
    told = answer.json

    assert (back.status, back.headers["location"].partition("&code=")[0]) == (303, CALLBACK)
    assert back.query["iss"] == settings().public_url
    assert back.query["state"] == "s1"
    assert back.headers["cache-control"] == answer.headers["cache-control"] == "no-store"
    assert (told["token_type"], told["expires_in"]) == ("Bearer", 600)
    assert told["scope"] == "catalogue:read orders:read"
    assert told["authorization_details"] == [
        {
            "type": "kami_merchant",
            "merchant": ids.encode("mer", by.merchant_id),
            "actions": ["catalogue:read", "orders:read"],
        }
    ]
    assert await orders(by, told["access_token"]) == []


async def test_o12_nothing_that_opens_is_stored(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, SECRET)
    code = await by.code(app.asking())
    told = (await app.of_code(code)).json

    rows = []
    for table in ("partner_app", "app_request", "app_code", "app_refresh", "app_token"):
        rows += [str(dict(row)) for row in await core.fetch(f"SELECT * FROM {table}")]
    dump = "".join(rows)

    assert len(rows) == 5
    for secret in (code, told["access_token"], told["refresh_token"], app.secret):
        assert secret is not None
        assert secret not in dump
        assert secret[7:] not in dump


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/callback",
        f"{CALLBACK}&more=1",
        f"{CALLBACK}/",
        CALLBACK.upper(),
        "https://APP.example/callback?from=kami",
        "http://app.example/callback?from=kami",
        "https://app.example:443/callback?from=kami",
        "https://app.example/a/../callback?from=kami",
        f"{CALLBACK}#x",
        "https://kami@app.example/callback?from=kami",
        "https://app.example.evil.test/callback?from=kami",
        "javascript:alert(1)",
    ],
)
async def test_h15_another_address_gets_a_page_and_no_redirect(db: None, uri: str) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)

    answer = await by.get(f"/oauth/authorize?{urlencode(app.asking(redirect_uri=uri))}")

    assert (answer.status, "location" in answer.headers) == (400, False)
    assert await core.value("SELECT count(*) FROM app_request") == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"response_type": "token"},
        {"response_type": "code id_token"},
        {"response_type": None},
        {"client_id": "app_unknown"},
        {"client_id": None},
    ],
)
async def test_h15_what_is_not_known_is_redirected_nowhere(
    db: None, changed: dict[str, str | None]
) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)

    answer = await by.get(f"/oauth/authorize?{urlencode(app.asking(**changed))}")

    assert (answer.status, "location" in answer.headers) == (400, False)


async def test_a_parameter_that_comes_twice_is_refused(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    query = urlencode(app.asking())

    twice = await by.get(f"/oauth/authorize?{query}&redirect_uri=https%3A%2F%2Fevil.test%2F")

    assert (twice.status, "location" in twice.headers) == (400, False)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "orders:read money:read"}, "invalid_scope"),
        ({"scope": "orders:read everything"}, "invalid_scope"),
        ({"authorization_details": "[{}]"}, "invalid_authorization_details"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request": "x.y.z"}, "request_not_supported"),
    ],
)
async def test_h16_a_request_that_is_wrong_comes_back_with_our_name(
    db: None, changed: dict[str, str | None], error: str
) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)

    answer = await by.get(f"/oauth/authorize?{urlencode(app.asking(**changed))}")

    assert answer.status == 303
    assert answer.headers["location"].startswith(f"{CALLBACK}&")
    assert answer.query["error"] == error
    assert (answer.query["iss"], answer.query["state"]) == (settings().public_url, "s1")
    assert await core.value("SELECT count(*) FROM app_request") == 0


async def test_h16_a_code_that_comes_twice_ends_what_it_made(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    code = await by.code(app.asking())
    told = (await app.of_code(code)).json
    assert await orders(by, told["access_token"]) == []

    again = await app.of_code(code)
    renewed = await app.token(grant_type="refresh_token", refresh_token=told["refresh_token"])

    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert (renewed.status, renewed.json["error"]) == (400, "invalid_grant")
    assert await orders(by, told["access_token"]) == "UNAUTHENTICATED"
    assert await core.value("SELECT revoked_for FROM app_grant") == "code_reused"


async def test_h16_m28_a_code_shown_many_times_at_once_is_exchanged_at_most_once(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    code = await by.code(app.asking())

    answers = await asyncio.gather(*(app.of_code(code) for _ in range(10)))

    good = [one.json for one in answers if one.status == 200]
    assert len(good) <= 1
    assert await core.value("SELECT count(*) FROM app_family") == len(good)
    for one in good:
        assert await orders(by, one["access_token"]) == "UNAUTHENTICATED"
    assert await core.value("SELECT revoked_for FROM app_grant") == "code_reused"


async def test_h16_another_apps_code_is_refused_and_stays_good_for_its_own(db: None) -> None:
    by = await person(await make.shop(keys=1))
    mine, other = await registered(by, PUBLIC), await registered(by, PUBLIC)
    code = await by.code(mine.asking())

    stolen = await other.of_code(code)
    own = await mine.of_code(code)

    assert (stolen.status, stolen.json["error"]) == (400, "invalid_grant")
    assert own.status == 200


@pytest.mark.parametrize(
    "changed", [{"code_verifier": "w" * 43}, {"redirect_uri": "https://evil.test/"}]
)
async def test_h16_a_code_without_its_proof_is_burnt(db: None, changed: dict[str, Any]) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    code = await by.code(app.asking())

    wrong = await app.of_code(code, **changed)
    right = await app.of_code(code)

    assert (wrong.status, wrong.json["error"]) == (400, "invalid_grant")
    assert (right.status, right.json["error"]) == (400, "invalid_grant")
    assert await core.value("SELECT count(*) FROM app_token") == 0


async def test_h16_a_code_lives_for_a_minute(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    code = await by.code(app.asking())
    left = "SELECT extract(epoch FROM expires_at - clock_timestamp())::float FROM app_code"
    assert 0 < await core.value(left) <= 60
    await core.execute("UPDATE app_code SET expires_at = clock_timestamp()")

    late = await app.of_code(code)

    assert (late.status, late.json["error"]) == (400, "invalid_grant")


async def test_h17_a_pushed_request_is_taken_up_once_in_time_by_its_app(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app, other = await registered(by, FAPI), await registered(by, FAPI)
    asked = {"scope": "orders:read"}
    first, stolen, late = [await app.pushed(**asked) for _ in range(3)]
    age = "UPDATE app_request SET expires_at = clock_timestamp() WHERE handle_hash = $1"

    page = await by.open(first)
    again = await by.open(first)
    foreign = await by.open({**stolen, "client_id": other.client_id})
    from domain.partners.rules import hashed

    await core.execute(age, hashed(late["request_uri"].rpartition(":")[2]))
    over = await by.open(late)

    assert page.status == 200
    assert [one.status for one in (again, foreign, over)] == [400, 400, 400]
    assert [one for one in (again, foreign, over) if "location" in one.headers] == []
    assert (await app.call("/oauth/par", app.asking(scope="orders:read"))).json["expires_in"] < 600


async def test_h16_par_cannot_be_left_out_or_spoken_over(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)

    plain = await by.open(app.asking(scope="orders:read"))
    told = await app.pushed(scope="orders:read")
    code = await by.code({**told, "scope": "money:read", "redirect_uri": "https://evil.test/"})
    answer = await app.of_code(code)

    assert (plain.status, "location" in plain.headers) == (400, False)
    assert answer.json["scope"] == "orders:read"
    assert answer.json["token_type"] == "DPoP"


async def test_no_is_no(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)

    back = await by.allow(app.asking(), word="no")

    assert back.query["error"] == "access_denied"
    assert "code" not in back.query
    assert await core.value("SELECT count(*) FROM app_grant") == 0


async def test_consent_is_for_this_session_and_this_site_and_once(db: None) -> None:
    by = await person(await make.shop(keys=1))
    other = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    merchant = ids.encode("mer", by.merchant_id)
    page = await by.open(app.asking())
    await other.open(app.asking())

    foreign = await by.submit(page, origin="https://evil.test", word="yes", merchant=merchant)
    lured = await other.submit(page, word="yes", merchant=ids.encode("mer", other.merchant_id))
    elsewhere = await by.submit(page, word="yes", merchant=ids.encode("mer", other.merchant_id))
    assert await core.value("SELECT count(*) FROM app_grant") == 0
    done = await by.submit(page, word="yes", merchant=merchant)
    twice = await by.submit(page, word="yes", merchant=merchant)

    assert foreign.status == 403
    assert 'name="password"' in lured.text
    assert elsewhere.status == 400
    assert "code" in done.query
    assert twice.status == 400
    assert await core.value("SELECT count(*) FROM app_grant") == 1


async def test_pages_are_closed_and_nothing_an_app_says_becomes_markup(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, replace(PUBLIC, name="<script>alert(1)</script>"))

    page = await by.open(app.asking(state='"><script>'))

    assert "<script" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self' https://app.example;" in policy
    assert page.headers["cache-control"] == "no-store"
