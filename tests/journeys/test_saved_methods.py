"""Saving a method: asked for, proved with the money, sealed, owned by the order, forgotten for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from domain import payments
from domain.core import clock, db, ids
from domain.core.money import Money
from domain.payments.ports import Fact, SavedToken, providers
from tests import database, make
from tests.journeys import checker
from tests.journeys.again import Buyer, count, pay, saver
from tests.platform import Platform, running, uuid_of

PRICE = Money(1_050, "USD")
TOKEN = "tok_5up3r53cr3t"


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        yield found
    await found.work()  # what the provider said last
    assert await checker.faults() == []


async def say(attempt_id: str, token: str | None, **changes: Any) -> int:
    """The provider's proved word about an attempt, with a token; how many were new."""
    facts: dict[str, Any] = {
        "event_id": f"evt-{ids.uuid7()}",
        "subject": "payment",
        "reference": attempt_id,
        "provider_ref": f"sbx_{attempt_id}",
        "state": "captured",
        "amount": PRICE,
        "occurred_at": clock.now(),
        "saved": SavedToken(token, "Card ····4242") if token else None,
    } | changes
    return await payments.put("sandbox", "main", [Fact(**facts)], body=facts["event_id"].encode())


async def waiting(platform: Platform, **more: Any) -> tuple[Buyer, str]:
    """A buyer before the provider's page, and the attempt's id."""
    begun = await platform.start(await make.shop(price=PRICE))
    buyer = Buyer(platform, begun["order"]["id"], begun["accessKey"])
    paid = await pay(platform, buyer.order_id, buyer.access_key, **more)
    assert paid["status"] == "REQUIRES_ACTION"
    await db.execute("UPDATE payment_attempt SET provider_ref = NULL")  # these words are our own
    return buyer, paid["id"]


async def test_what_was_asked_to_be_saved_is_shown_to_its_buyer_and_to_nobody_else(
    platform: Platform,
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))

    (shown,) = await buyer.saved()

    assert shown["label"] == "Sandbox ····4242"
    assert shown["method"] == {"code": "sandbox", "canSave": True}
    assert (await platform.data(_STRANGER, {"id": buyer.order_id}))["order"] is None
    assert await count("saved_method") == 1


_STRANGER = "query ($id: ID!) { order(id: $id) { savedMethods { id } } }"


async def test_who_did_not_ask_saves_nothing_even_when_a_token_comes(platform: Platform) -> None:
    buyer, attempt_id = await waiting(platform)

    await say(attempt_id, TOKEN)
    await platform.work()

    assert (await platform.order(buyer.order_id, buyer.access_key))["status"] == "DELIVERED"
    assert await buyer.saved() == []
    assert await count("saved_method") == 0


async def test_h40_a_token_stands_nowhere_in_plain_and_opens_only_in_its_own_row(
    platform: Platform,
) -> None:
    buyer, attempt_id = await waiting(platform, saveMethod=True)
    other, other_attempt = await waiting(platform, saveMethod=True)
    await say(attempt_id, TOKEN)
    await say(other_attempt, "tok_other")
    await platform.work()

    dump = await everything()
    (one,), (two,) = await buyer.saved(), await other.saved()
    await db.execute(
        "UPDATE saved_method s SET token_cipher = o.token_cipher FROM saved_method o"
        " WHERE s.id = $1 AND o.id = $2",
        uuid_of(one["id"]),
        uuid_of(two["id"]),
    )

    assert "Card ····4242" in dump
    assert _bytes(r'(1,"\\x746f6b5f6f74686572",2)') == "tok_other"  # what would be found
    assert TOKEN not in dump
    assert "tok_other" not in dump
    saved = await payments.find_saved(uuid_of(one["id"]), uuid_of(buyer.order_id))
    assert saved is not None
    with pytest.raises(InvalidTag):
        await payments.token_of(saved)


async def everything() -> str:
    """Every row of every table as text, bytes as they are."""
    rows: list[str] = []
    async with database.owner():
        names = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for name in names:
            found = await db.fetch(f'SELECT t::text AS line FROM "{name[0]}" t')
            rows += [row["line"] for row in found]
            rows += [_bytes(row["line"]) for row in found if "\\\\x" in row["line"]]
    return "\n".join(rows)


def _bytes(line: str) -> str:
    parts = [part for part in line.replace('"', ",").split(",") if part.startswith("\\\\x")]
    return " ".join(bytes.fromhex(part[3:]).decode("latin-1") for part in parts)


async def test_c01_the_word_fifty_times_in_parallel_saves_one_method(platform: Platform) -> None:
    buyer, attempt_id = await waiting(platform, saveMethod=True)

    same = [say(attempt_id, TOKEN, event_id="evt-1") for _ in range(25)]
    new = await asyncio.gather(*same, *(say(attempt_id, TOKEN) for _ in range(25)))
    await asyncio.gather(platform.work(), platform.work())

    assert sum(new) == 26
    assert len(await buyer.saved()) == 1
    assert await count("saved_method") == 1
    assert await count("capture") == 1


async def test_a_token_that_comes_with_a_later_word_is_kept_once_and_not_after_it_was_forgotten(
    platform: Platform,
) -> None:
    buyer, attempt_id = await waiting(platform, saveMethod=True)
    await say(attempt_id, None)
    await platform.work()
    assert await buyer.saved() == []

    await say(attempt_id, TOKEN)
    await platform.work()
    (saved,) = await buyer.saved()
    buyer.saved_id = saved["id"]
    await buyer.forget()
    await say(attempt_id, TOKEN)
    await platform.work()

    assert await buyer.saved() == []
    assert await count("saved_method") == 1


@pytest.mark.parametrize(
    "word",
    [
        {"state": "declined", "amount": Money(0, "USD")},
        {"amount": Money(1_150, "USD")},
        {"amount": Money(1_050, "EUR")},
    ],
)
async def test_a_word_that_takes_nothing_or_something_else_saves_nothing(
    platform: Platform, word: dict[str, Any]
) -> None:
    buyer, attempt_id = await waiting(platform, saveMethod=True)

    await say(attempt_id, TOKEN, **word)
    await platform.work()

    assert await buyer.saved() == []
    assert await count("saved_method") == 0


async def test_h40_a_token_that_could_be_a_card_number_is_dropped_and_the_money_is_not(
    platform: Platform,
) -> None:
    buyer, attempt_id = await waiting(platform, saveMethod=True)

    await say(attempt_id, "4242424242424242")
    await platform.work()

    assert (await platform.order(buyer.order_id, buyer.access_key))["status"] == "DELIVERED"
    assert await buyer.saved() == []
    assert "4242424242424242" not in await everything()


async def test_a_token_that_does_not_open_never_stops_its_money(platform: Platform) -> None:
    buyer, attempt_id = await waiting(platform, saveMethod=True)
    await say(attempt_id, TOKEN)
    async with database.owner():
        await db.execute("ALTER TABLE inbox_event DISABLE TRIGGER inbox_event_facts")
        await db.execute(
            "UPDATE inbox_event SET facts_json = jsonb_set(facts_json, '{token}', to_jsonb($1::text))",
            "AQ" + "A" * 46,
        )
        await db.execute("ALTER TABLE inbox_event ENABLE TRIGGER inbox_event_facts")

    await platform.work()

    assert (await platform.order(buyer.order_id, buyer.access_key))["status"] == "DELIVERED"
    assert await buyer.saved() == []


async def test_another_wish_voids_the_page_that_would_not_do_it(platform: Platform) -> None:
    buyer, plain_id = await waiting(platform)

    saving = await pay(platform, buyer.order_id, buyer.access_key, saveMethod=True)
    same = await pay(platform, buyer.order_id, buyer.access_key, saveMethod=True)

    assert saving["id"] == same["id"] != plain_id
    assert await db.value("SELECT state FROM payment_attempt WHERE seq = 1") == "voided"
    assert await count("payment_attempt") == 2


async def test_a_method_that_cannot_be_saved_is_refused_before_anything(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful:
        """The sandbox, saving nothing."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner
            self.methods = tuple(
                type(one)(one.code, one.kind, one.currencies) for one in inner.methods
            )

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    begun = await platform.start(await make.shop(price=PRICE))
    monkeypatch.setitem(providers, "sandbox", Forgetful(providers["sandbox"]))

    refused = await pay(platform, begun["order"]["id"], begun["accessKey"], saveMethod=True)

    assert (refused["__typename"], refused["code"]) == ("InvalidInput", "INVALID_INPUT")
    assert await count("payment_attempt") == 0


async def test_a_forgotten_method_is_gone_here_at_the_provider_and_from_the_table(
    platform: Platform,
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))
    saved = await payments.find_saved(uuid_of(buyer.saved_id), uuid_of(buyer.order_id))
    assert saved is not None
    token = await payments.token_of(saved)

    first = await buyer.forget()
    again = await buyer.forget()
    await platform.work()

    assert first["__typename"] == again["__typename"] == "MethodForgotten"
    assert (first["savedMethodId"], first["order"]["savedMethods"]) == (buyer.saved_id, [])
    assert await db.value("SELECT token_cipher FROM saved_method") is None
    assert await count("promise WHERE task = 'method.forget'") == 1
    book = platform.sandbox.app.state.sandbox.book
    assert book.has_method("main", token) is False


async def test_a_provider_that_is_away_is_asked_to_forget_again(
    platform: Platform,
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))
    await platform.sandbox.modes("main", fault="500")

    await buyer.forget()
    await platform.work()
    assert await db.value("SELECT token_cipher IS NOT NULL FROM saved_method")
    assert (await buyer.again())["code"] == "NOT_FOUND"

    await platform.sandbox.modes("main")
    assert await payments.forget_method(uuid_of(buyer.saved_id))
    assert await payments.forget_method(uuid_of(buyer.saved_id))
    assert await db.value("SELECT token_cipher FROM saved_method") is None


async def test_e19_j08_only_the_buyer_of_the_chain_may_forget(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    mine, theirs = await saver(platform, of), await saver(platform, of)  # the same e-mail address

    refusals = [
        await mine.forget(savedMethodId=theirs.saved_id),
        await mine.forget(accessKey=theirs.access_key),
        await mine.forget(savedMethodId=ids.encode("svm", ids.uuid7())),
    ]

    assert {(one["code"], one["message"], *one["path"]) for one in refusals} == {
        ("NOT_FOUND", refusals[0]["message"])
    }
    assert len(await mine.saved()) == len(await theirs.saved()) == 1
