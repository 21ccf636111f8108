"""Apps by the API: registered, changed, given secrets and grants by a merchant's developers, ended by who may."""

from __future__ import annotations

from typing import Any

from joserfc.jwk import ECKey

from domain import partners
from domain.core import db as core
from domain.core import ids
from domain.identity import Role
from server.graphql import shaping
from tests import make
from tests.api.desk import Desk, audited, code, member

MANIFEST = {
    "name": "Till",
    "scopes": ["orders:read"],
    "redirectUris": ["https://till.example/cb"],
    "authentication": "CLIENT_SECRET_BASIC",
    "grantTypes": ["AUTHORIZATION_CODE", "REFRESH_TOKEN", "CLIENT_CREDENTIALS"],
}
APP = "id version name scopes redirectUris authentication jwks dpopBound requiresPar"
PROBLEM = "... on Problem { code path }"
FAULTS = "... on InvalidInput { problems { code path } }"
RESULTS = {
    "createApp": f"... on AppCredentials {{ secret app {{ {APP} }} }}",
    "rotateAppSecret": "... on AppCredentials { secret }",
    "updateApp": f"... on PartnerApp {{ {APP} }} ... on Conflict {{ current {{ version }} }}",
    "deleteApp": "... on AppDeleted { appId }",
    "grantApp": "... on AppGrant { id kind scopes limits { scope most { amount currency } } }",
    "revokeAppGrant": "... on GrantRevoked { ended }",
}
INPUTS = {
    "rotateAppSecret": "AppInput",
    "deleteApp": "AppInput",
    "revokeAppGrant": "RevokeGrantInput",
}
GRANTS = """query ($id: ID!) { appGrants(merchantId: $id, first: 10) { nodes { id appName kind scopes } } }"""
APPS = f"query ($id: ID!) {{ apps(merchantId: $id) {{ {APP} }} }}"


async def post(desk: Desk, name: str, input: dict[str, Any]) -> dict[str, Any]:
    more = PROBLEM if name in ("deleteApp", "revokeAppGrant") else f"{PROBLEM} {FAULTS}"
    kind = INPUTS.get(name, f"{name[0].upper()}{name[1:]}Input")
    document = f"mutation ($input: {kind}!) {{ {name}(input: $input) {{ __typename {RESULTS[name]} {more} }} }}"
    return await desk.ask(document, {"input": input})


async def do(desk: Desk, name: str, input: dict[str, Any]) -> Any:
    body = await post(desk, name, input)
    assert "errors" not in body, body
    return body["data"][name]


def of(shop: make.Shop, **changed: Any) -> dict[str, Any]:
    merchant = ids.encode("mer", shop.merchant_id)
    return {"merchantId": merchant, "manifest": {**MANIFEST, **changed}}


async def test_a_developer_registers_changes_and_ends_an_app(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop, Role.DEVELOPER)
    made = await do(desk, "createApp", of(shop))
    app_id = made["app"]["id"]

    fresh = await do(desk, "rotateAppSecret", {"appId": app_id})
    change = {"appId": app_id, "manifest": {**MANIFEST, "name": "Tills"}}
    stale = await do(desk, "updateApp", {**change, "expectedVersion": 9})
    renamed = await do(desk, "updateApp", {**change, "expectedVersion": 2})
    listed = await desk.data(APPS, {"id": ids.encode("mer", shop.merchant_id)})
    gone = await do(desk, "deleteApp", {"appId": app_id})
    again = await do(desk, "deleteApp", {"appId": app_id})

    assert made["secret"].startswith("kami_k_")
    assert made["app"]["version"] == 1
    assert fresh["secret"] not in ("", made["secret"])
    assert (stale["__typename"], stale["current"]) == ("Conflict", {"version": 2})
    assert (renamed["name"], renamed["version"]) == ("Tills", 3)
    assert listed["apps"] == [{key: renamed[key] for key in renamed if key != "__typename"}]
    assert gone == {"__typename": "AppDeleted", "appId": app_id}
    assert again["code"] == "NOT_FOUND"
    assert [action for action, _ in await audited()] == [
        "app.created",
        "app.secret_rotated",
        "app.changed",
        "app.deleted",
    ]
    assert made["secret"] not in str(await audited())


async def test_every_fault_of_a_manifest_is_named(db: None) -> None:
    shaping.install()
    shop = await make.shop(keys=1)
    desk = await member(shop, Role.DEVELOPER)
    bad = {
        "name": "",
        "scopes": ["orders:read", "everything"],
        "redirectUris": ["https://till.example/cb", "http://till.example/cb"],
        "authentication": "PRIVATE_KEY_JWT",
        "homepage": "http://till.example",
        "webhooks": [{"url": "ftp://till.example", "kinds": []}],
    }

    refused = await do(desk, "createApp", of(shop, **bad))

    assert sorted(one["path"][1] for one in refused["problems"]) == [
        "homepage",
        "jwks",
        "name",
        "redirectUris",
        "scopes",
        "webhooks",
    ]
    assert await core.value("SELECT count(*) FROM partner_app") == 0


async def test_scopes_of_money_take_the_finance_tier(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop, Role.DEVELOPER)
    key = {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "k1", "use": "sig"}
    keys = {"authentication": "PRIVATE_KEY_JWT", "jwks": {"keys": [key]}}
    money = {"scopes": ["refunds:write"]}

    plain = await do(desk, "createApp", of(shop, **money))
    half = await do(desk, "createApp", of(shop, **money, **keys, dpopBound=True))
    whole = await do(desk, "createApp", of(shop, **money, **keys, dpopBound=True, requiresPar=True))

    assert [one["problems"][0]["path"] for one in (plain, half)] == [["input", "scopes"]] * 2
    assert whole["secret"] is None
    assert '"kid": "k1"' in whole["app"]["jwks"]


async def test_grants_are_listed_and_ended_by_developers_and_by_who_gave_them(db: None) -> None:
    shop = await make.shop(keys=1)
    owner, developer = [await member(shop, role) for role in (Role.OWNER, Role.DEVELOPER)]
    app_id = (await do(developer, "createApp", of(shop)))["app"]["id"]
    ask = {"appId": app_id, "scopes": ["orders:read"]}
    first = await do(owner, "grantApp", ask)
    second = await do(owner, "grantApp", ask)
    listed = (await owner.data(GRANTS, {"id": ids.encode("mer", shop.merchant_id)}))["appGrants"]

    ended = await do(developer, "revokeAppGrant", {"grantId": second["id"]})
    again = await do(owner, "revokeAppGrant", {"grantId": second["id"]})

    assert first["id"] != second["id"]
    assert listed["nodes"] == [
        {"id": second["id"], "appName": "Till", "kind": "client", "scopes": ["orders:read"]}
    ]
    assert (ended["ended"], again["ended"]) == (True, False)
    assert await core.value("SELECT count(*) FROM app_grant WHERE revoked_at IS NULL") == 0


async def test_what_is_not_in_the_manifest_cannot_be_granted(db: None) -> None:
    shop = await make.shop(keys=1)
    desk = await member(shop, Role.OWNER)
    app_id = (await do(desk, "createApp", of(shop)))["app"]["id"]
    usd = {"amount": "5.00", "currency": "USD"}

    refused = await do(
        desk,
        "grantApp",
        {
            "appId": app_id,
            "scopes": ["catalogue:read"],
            "limits": [{"scope": "orders:read", "most": usd}],
            "expiresAt": "2020-01-01T00:00:00Z",
        },
    )

    paths = sorted(one["path"][1] for one in refused["problems"])
    assert paths == ["expiresAt", "limits", "scopes"]
    assert await core.value("SELECT count(*) FROM app_grant") == 0


async def test_h01_h03_apps_are_their_merchants_and_of_its_developers(db: None) -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=1)
    mine, stranger = await member(shop, Role.OWNER), await member(other, Role.OWNER)
    app_id = (await do(mine, "createApp", of(shop)))["app"]["id"]
    grant = (await do(mine, "grantApp", {"appId": app_id, "scopes": ["orders:read"]}))["id"]
    nobody = ids.encode("app", ids.uuid7())
    support = await member(shop, Role.SUPPORT)

    for name in ("rotateAppSecret", "deleteApp"):
        foreign = await do(stranger, name, {"appId": app_id})
        missing = await do(stranger, name, {"appId": nobody})
        assert foreign == missing
        assert foreign["code"] == "NOT_FOUND"
        assert code(await post(support, name, {"appId": app_id})) == "FORBIDDEN"
    assert (await do(stranger, "revokeAppGrant", {"grantId": grant}))["code"] == "NOT_FOUND"
    assert code(await post(support, "revokeAppGrant", {"grantId": grant})) == "FORBIDDEN"
    assert code(await post(Desk(None), "createApp", of(shop))) == "UNAUTHENTICATED"

    found = await partners.app(app_id)
    assert found is not None
    assert await core.value("SELECT count(*) FROM app_grant WHERE revoked_at IS NULL") == 1
