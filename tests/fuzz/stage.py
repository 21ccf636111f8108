"""Two merchants where the same has happened, marked texts in everything of theirs, and a token for every caller.

What is asked goes through the whole application: the edge, HTTP, tokens, the door. Only the network is left out.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from starlette.types import ASGIApp

from domain import identity, merchants, partners, webhooks
from domain.core import clock, db, ids
from domain.core.money import Money
from domain.core.settings import settings
from domain.identity import Role, Viewer
from domain.partners import Asked, Scope
from domain.webhooks.ports import Message, carriers
from domain.webhooks.ports import Reply as Received
from server import app as applications
from tests import database, make
from tests.architecture import world as worlds
from tests.architecture.world import PASSWORD, World
from tests.fuzz.grammar import Pool
from tests.server.oauth_client import FAPI, Browser, Partner, registered

COLUMNS = Path(__file__).with_name("columns.json")
PLANTED, PUBLIC, WORD = "planted", "public", "word"

OWN_KEYS = ("access-key-of-a-delivered-order", "access-key-of-an-unpaid-order")

# The marks: of the merchant that most callers belong to, and of the other one.
MINE, OTHER = "canary-m-", "canary-o-"
_TABLE_OF = {
    "acc": "account",
    "app": "partner_app",
    "alr": "security_alert",
    "apr": "approval",
    "blk": "bulk_job",
    "cpn": "coupon",
    "exc": "money_exception",
    "gnt": "app_grant",
    "imp": "import_job",
    "inv": "account_link",
    "lin": "order_line",
    "mer": "merchant",
    "ord": "orders",
    "pac": "provider_credential",
    "pay": "payment_attempt",
    "pky": "passkey",
    "pom": "payout_method",
    "prd": "product",
    "ref": "refund",
    "rep": "good_report",
    "ses": "session",
    "shp": "shop",
    "sup": "supply",
    "svm": "saved_method",
    "upl": "upload",
    "var": "variant",
    "whd": "webhook_delivery",
    "whe": "webhook_endpoint",
}
# What a caller can take from itself: put back, so that the next question is still asked by somebody.
_OF_CALLERS = (
    *("account", "membership", "operator_role", "session", "mfa", "passkey", "recovery_code"),
    *("partner_app", "app_grant", "app_token", "merchant", "shop"),
)


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Stage:
    """`tokens` by caller, None for guests; `pool` for whoever writes documents."""

    world: World
    app: ASGIApp
    tokens: dict[str, str | None]
    partner: Partner
    pool: Pool
    keys: dict[str, dict[str, str]]  # by caller: what stands for an access key, and the key
    other: UUID  # the other merchant
    _kept: dict[str, str] = field(default_factory=dict)
    _addresses: Any = field(default_factory=itertools.count)

    def marks(self, caller: str) -> re.Pattern[str] | None:
        """What must not be in an answer to `caller`; None for operators, who see everybody's."""
        if caller.startswith("operator"):
            return None
        if caller in ("other_owner", "other_buyer"):
            return re.compile(MINE, re.IGNORECASE)
        if caller == "anonymous":
            return re.compile(f"{MINE}|{OTHER}|CARD-[12]|other_owner@|finance@example", re.I)
        return re.compile(f"{OTHER}|SECOND-[12]|other_owner@", re.IGNORECASE)

    async def ask(self, caller: str, document: str, variables: Any = None, **more: Any) -> Reply:
        """One operation over HTTP; `accept` and `path` may be given."""
        accept = more.get("accept", "application/json")
        path = more.get("path", "/graphql")
        headers = {"host": "127.0.0.1:8000", "content-type": "application/json", "accept": accept}
        token = self.tokens[caller]
        if caller == "app":
            headers["authorization"] = f"DPoP {token}"
            headers["dpop"] = self.partner.proof("POST", path, token=token)
        elif token is not None:
            headers["authorization"] = f"Bearer {token}"
        for name, key in self.keys[caller].items():
            document = document.replace(name, key)
        body = orjson.dumps({"query": document, "variables": variables or {}})
        # Guests come from many places: what is counted by address is not all there is to meet.
        address = f"203.0.113.{next(self._addresses) % 250}"
        return await send(self.app, path, headers, body, address, lasts_s=more.get("lasts_s"))

    async def keep(self) -> None:
        """Remember what callers are, for `restore`."""
        for table in _OF_CALLERS:
            self._kept[table] = await db.value(
                f"SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]')::text FROM {table} t"
            )

    async def restore(self) -> None:
        """Give every caller back what it has thrown away: its session, its roles, its app."""
        async with database.owner():
            await db.execute("SET LOCAL session_replication_role = replica")
            for table, rows in self._kept.items():
                columns = await db.value(database.COLUMNS, table)
                await db.execute(f"DELETE FROM {table}")
                await db.execute(
                    f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
                    f" SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb)",
                    rows,
                )
        identity.forget_viewers()
        partners.forget()
        merchants.forget()


async def send(
    app: ASGIApp,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    address: str,
    *,
    lasts_s: float | None = None,
) -> Reply:
    """One request in this process; the client hangs up after `lasts_s` seconds when that is given."""
    sent: list[Any] = []
    asked = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in asked:
            return message
        await asyncio.sleep(3_600 if lasts_s is None else lasts_s)
        return {"type": "http.disconnect"}

    async def take(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": (address, 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, take)
    head = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Reply(sent[0]["status"], head, b"".join(one.get("body", b"") for one in sent[1:]))


class Deaf:
    """A carrier whose receivers take everything."""

    async def send(self, message: Message) -> Received:
        """See Carrier."""
        assert message.body
        return Received(200, text="thanks", took_ms=1)


@asynccontextmanager
async def stage(folder: Path, monkeypatch: Any) -> AsyncIterator[Stage]:
    """Needs the fixture `db`."""
    monkeypatch.setenv("KAMI_COST_CAPACITY", "1000000000")
    monkeypatch.setenv("KAMI_COST_REFILL", "1000000000")
    settings.cache_clear()
    async with worlds.world(folder, monkeypatch) as world:
        second = await _second(world, monkeypatch)
        tokens = await _tokens(world)
        partner, tokens["app"] = await _partner(world)
        monkeypatch.setitem(carriers, webhooks.CARRIER, Deaf())
        app = applications.create_app()
        await plant(world.shop.merchant_id, MINE)
        await plant(second.merchant_id, OTHER)
        merchants.forget()
        pool = Pool(await _ids(world.lot), OWN_KEYS, [world.shop.handle, second.handle])
        made = Stage(world, app, tokens, partner, pool, _keys(world, tokens), second.merchant_id)
        await made.keep()
        yield made


async def _second(world: World, monkeypatch: Any) -> make.Shop:
    """Let happen to the other merchant what has happened to the first; its shop."""
    viewers = {one.name: one.viewer for one in world.callers}
    owner = viewers["other_owner"]
    assert owner is not None
    [merchant_id] = owner.roles
    shop = await _shop_of(merchant_id)
    as_owner: dict[str, Viewer | None] = dict.fromkeys(("owner", "catalogue", "finance"), owner)
    as_owner["operator_finance"] = viewers["operator_admin"]
    world.platform.address = "203.0.113.99"  # guests are told apart by it, and their keys too
    await worlds.catalogue_of(world.platform, shop, as_owner, ("SECOND-1", "SECOND-2"))
    other = next(one for one in world.callers if one.name == "other_buyer")
    assert other.order_id is not None and other.access_key is not None
    await worlds.trouble_of(world.platform, shop, other.order_id, other.access_key, as_owner)
    await worlds.webhooks_of(shop, monkeypatch)
    await worlds.apps_of(shop, as_owner)
    by = identity.Actor(owner.account_id)
    invited = "invited@example.com"
    await identity.invite(merchant_id, invited, Role.SUPPORT, locale="en", by=by)
    return shop


async def _shop_of(merchant_id: UUID) -> make.Shop:
    row = await db.row(
        "SELECT s.id AS shop_id, s.handle, v.product_id, v.id AS variant_id, p.minor, p.currency"
        " FROM shop s JOIN variant v USING (merchant_id)"
        " JOIN price p ON p.merchant_id = v.merchant_id AND p.variant_id = v.id WHERE s.merchant_id = $1",
        merchant_id,
    )
    assert row is not None
    return make.Shop(
        merchant_id,
        row["shop_id"],
        row["handle"],
        row["product_id"],
        row["variant_id"],
        Money(row["minor"], row["currency"]),
    )


async def _tokens(world: World) -> dict[str, str | None]:
    """A session for everybody who signs in, an access token with every scope for an app."""
    made: dict[str, str | None] = {}
    for caller in world.callers:
        made[caller.name] = None
        if caller.viewer is not None:
            signed = await identity.sign_in(caller.viewer.email, PASSWORD, worlds.ADDRESS)
            made[caller.name] = signed.token
    return made


async def _partner(world: World) -> tuple[Partner, str]:
    """An app that holds every scope of the first merchant, and its token, bound to its key."""
    owner = next(one.viewer for one in world.callers if one.name == "owner")
    assert owner is not None
    merchant_id = world.shop.merchant_id
    browser = Browser(owner.email, owner.account_id, merchant_id)
    partner = await registered(browser, replace(FAPI, name="Everything"))
    await partners.allow_client(
        (await partners.apps([partner.id]))[partner.id],
        Asked(tuple(str(one) for one in Scope)),
        merchant_id=merchant_id,
        account_id=owner.account_id,
        auth_at=clock.now(),
    )
    issued = await partner.token(grant_type="client_credentials")
    return partner, issued.json["access_token"]


def _keys(world: World, callers: Iterable[str]) -> dict[str, dict[str, str]]:
    """A key makes its holder the buyer: everybody has those of orders that are theirs to see, guests none."""
    [mine] = [one.access_key for one in world.callers if one.name == "buyer"]
    [other] = [one.access_key for one in world.callers if one.name == "other_buyer"]
    assert mine is not None and other is not None
    made = {}
    for caller in callers:
        held = [mine, world.unpaid_key]
        if caller == "anonymous":
            held = ["0" * len(mine), "z" * len(mine)]
        elif caller in ("other_buyer", "other_owner"):
            held = [other, other]
        made[caller] = dict(zip(OWN_KEYS, held, strict=True))
    return made


async def _ids(lot: str) -> dict[str, Sequence[str]]:
    """Public ids of everything that has one, by prefix, in the order it was made."""
    made: dict[str, Sequence[str]] = {}
    for prefix, table in _TABLE_OF.items():
        rows = await db.fetch(f"SELECT id FROM {table} ORDER BY id LIMIT 40")
        made[prefix] = [ids.encode(prefix, row["id"]) for row in rows]
    sold = await db.fetch("SELECT id FROM card_key WHERE state <> 'available' ORDER BY id LIMIT 40")
    made["god"] = [ids.encode("god", row["id"]) for row in sold]
    made["lot"] = [lot]
    return made


def columns() -> dict[str, dict[str, str]]:
    """Table → column → what its text is: planted, public, or a word of ours."""
    found: dict[str, dict[str, str]] = json.loads(COLUMNS.read_text("utf-8"))
    return found


async def plant(merchant_id: UUID, mark: str) -> None:
    """Put `mark` into every text of a merchant that somebody wrote and not everybody may read."""
    numbers = itertools.count(1)
    async with database.owner():
        await db.execute("SET LOCAL session_replication_role = replica")
        for table, kinds in columns().items():
            for column, kind in kinds.items():
                if kind == PLANTED:
                    await _mark(table, column, merchant_id, f"{mark}{next(numbers)}")


# Whose a row is, where the merchant is not on it.
OWNED = {
    "merchant": "t.id = $1",
    "account": "t.id IN (SELECT account_id FROM membership WHERE merchant_id = $1)",
    "session": "t.account_id IN (SELECT account_id FROM membership WHERE merchant_id = $1)",
    "passkey": "t.account_id IN (SELECT account_id FROM membership WHERE merchant_id = $1)",
    "webhook_attempt": "t.endpoint_id IN (SELECT id FROM webhook_endpoint WHERE merchant_id = $1)",
}
# The form a text has to have.
_FORMS = {
    "webhook_endpoint.url": "'https://' || {0} || '.example/'",
    "orders.email": "{0} || '@example.com'",
    "account_link.email": "{0} || '@example.com'",
    "merchant.contact_email": "{0} || '@example.com'",
    "partner_app.redirect_uris": "ARRAY['https://' || {0} || '.example/']",
}


async def _mark(table: str, column: str, merchant_id: UUID, mark: str) -> None:
    name = f"{table}.{column}"
    # Some are unique: each row's own number makes them so.
    text = "($2 || '-' || (abs(hashtext(t.ctid::text || t.tableoid)) % 1000)::text)"
    value = _FORMS.get(name, "{0}").format(text)
    if column.endswith("_json"):
        value = f"t.{column} || jsonb_build_object('canary', {text})"
        value = f"CASE jsonb_typeof(t.{column}) WHEN 'object' THEN {value} ELSE t.{column} END"
    await db.execute(
        f"UPDATE {table} t SET {column} = {value}"
        f" WHERE {OWNED.get(table, 't.merchant_id = $1')} AND {column} IS NOT NULL",
        merchant_id,
        mark,
    )
