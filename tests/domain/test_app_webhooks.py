"""Webhooks in manifests: keys stay with their URL, every fault is named, nothing half made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from domain import webhooks
from domain.core import db
from domain.core.errors import InputInvalid
from domain.identity import Role
from domain.partners import Webhook
from domain.webhooks import Endpoint, Hook, granted
from resolvers import access
from tests import make
from tests.receiver import ACTOR, Receiver, receiving
from tests.server.oauth_client import SECRET
from tests.workers.test_app_webhooks import SPLIT, app_of


@pytest.fixture
async def at(db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with receiving(monkeypatch) as found:
        yield found


async def test_a_manifest_keeps_the_keys_of_urls_it_keeps(at: Receiver) -> None:
    shop = await make.shop()
    kept, gone = Webhook(f"{at.url}/kept"), Webhook(f"{at.url}/gone")
    app, hooks = await app_of(shop, kept, gone)
    changed = replace(
        SECRET, webhooks=(replace(kept, kinds=("order.paid",)), Webhook(f"{at.url}/new"))
    )

    after = await webhooks.change_app(
        shop.merchant_id, app.id, changed, expected_version=1, actor=ACTOR
    )

    by_url: dict[str, Hook] = {one.endpoint.terms.url: one for one in after}
    first: dict[str, Endpoint] = {one.endpoint.terms.url: one.endpoint for one in hooks}
    assert set(by_url) == {f"{at.url}/kept", f"{at.url}/new"}
    assert by_url[f"{at.url}/kept"].new_secret is None
    assert by_url[f"{at.url}/kept"].endpoint.keys == first[f"{at.url}/kept"].keys
    assert by_url[f"{at.url}/kept"].endpoint.terms.kinds == ("order.paid",)
    assert by_url[f"{at.url}/kept"].endpoint.version == 2
    assert by_url[f"{at.url}/new"].new_secret is not None
    erased = await db.row("SELECT keys_cipher FROM webhook_endpoint WHERE deleted_at IS NOT NULL")
    assert erased is not None
    assert erased["keys_cipher"] == b""
    assert {one.new_secret for one in hooks} & {None} == set()


@pytest.mark.parametrize(
    ("hook", "path", "code"),
    [
        (Webhook("ftp://till.example"), ("url",), "URL_NOT_ALLOWED"),
        (Webhook("https://10.0.0.1/x"), ("url",), "URL_NOT_ALLOWED"),
        (Webhook("https://till.example/x", (), "{ nothing }"), ("selection",), "SELECTION_INVALID"),
        (
            Webhook("https://till.example/x", (), "{ order { goods { content } } }"),
            ("selection",),
            "SELECTION_INVALID",
        ),
        (Webhook("https://till.example/x", (), SPLIT), ("selection",), "FIELD_INVALID"),
    ],
)
async def test_every_faulty_webhook_of_a_manifest_is_named(
    at: Receiver, hook: Webhook, path: tuple[str, ...], code: str
) -> None:
    shop = await make.shop()
    good = Webhook("https://till.example/good")

    with pytest.raises(InputInvalid) as refused:
        await app_of(shop, good, hook)

    assert [(one.path, one.code) for one in refused.value.problems] == [
        (("input", "webhooks", "1", *path), code)
    ]
    assert await db.value("SELECT count(*) FROM partner_app") == 0
    assert await db.value("SELECT count(*) FROM webhook_endpoint") == 0


def test_the_roles_that_may_read_money_are_the_front_doors() -> None:
    roles = {role for role in access.MONEY_READERS if isinstance(role, Role)}

    assert set(granted.MONEY_ROLES) == {Role.OWNER, *roles}


async def test_the_same_url_twice_is_refused(at: Receiver) -> None:
    twice = Webhook("https://till.example/x")

    with pytest.raises(InputInvalid) as refused:
        await app_of(await make.shop(), twice, twice)

    assert [one.path for one in refused.value.problems] == [("input", "webhooks", "1", "url")]
