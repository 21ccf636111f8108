"""Keys coming in: every line or none, unique for ever, and a report that says which line and why."""

from __future__ import annotations

import asyncio
import contextvars
from datetime import timedelta
from uuid import UUID

import pytest

from domain import catalogue
from domain.catalogue import (
    Actor,
    Delivery,
    FileUnreadable,
    Format,
    ImportRefused,
    LotTerms,
    Report,
    imports,
)
from domain.catalogue import keys as shelf_keys
from domain.core import clock, ids
from domain.core import db as core
from domain.core.errors import InputInvalid, NotFound
from domain.core.money import Money
from domain.core.once import KeyReused
from tests import make

WHO = Actor("merchant", "acc_1", session="s")


async def bring(
    shop: make.Shop,
    source: str | bytes,
    *,
    skip: bool = False,
    import_id: UUID | None = None,
    lot: LotTerms | None = None,
    variant_id: UUID | None = None,
) -> Report:
    return await catalogue.import_cards(
        shop.merchant_id,
        variant_id or shop.variant_id,
        source,
        actor=WHO,
        skip_bad_lines=skip,
        import_id=import_id,
        lot=lot,
    )


async def refusal(shop: make.Shop, source: str | bytes) -> list[tuple[int, str, int | None]]:
    with pytest.raises(ImportRefused) as caught:
        await bring(shop, source)
    problems = caught.value.facts["problems"]
    assert caught.value.facts["problem_count"] == len(problems)
    return [(one.line, one.fault, one.first_line) for one in problems]


async def stored() -> int:
    return int(await core.value("SELECT count(*) FROM card_key"))


async def contents(shop: make.Shop) -> set[str]:
    exported = await shelf_keys.export_keys(shop.merchant_id, shop.variant_id, 10_000, WHO)
    return {one.content for one in exported}


async def test_d07_a_clean_list_comes_in_as_one_lot_sealed(db: None) -> None:
    shop = await make.shop(keys=0)
    until = clock.now() + timedelta(days=30)
    terms = LotTerms(Money(250, "USD"), until, None, "from the wholesaler")

    report = await bring(shop, b"\xef\xbb\xbfA-1\r\n\r\n  B-2 \rC-3\n", lot=terms)

    assert (report.state, report.added, report.problem_count) == ("done", 3, 0)
    lot = await core.row("SELECT cost_minor, currency, expires_at, note FROM stock_lot")
    assert lot is not None
    assert tuple(lot) == (250, "USD", until, "from the wholesaler")
    rows = await core.fetch("SELECT ciphertext, hash, state, expires_at FROM card_key")
    assert {row["state"] for row in rows} == {"available"}
    assert {row["expires_at"] for row in rows} == {until}
    assert not any(code in row["ciphertext"] for row in rows for code in (b"A-1", b"B-2", b"C-3"))
    assert await catalogue.available(shop.merchant_id, [shop.variant_id]) == {shop.variant_id: 3}
    assert await contents(shop) == {"A-1", "B-2", "C-3"}
    assert await core.value("SELECT facts_json FROM audit_log WHERE action = 'stock.import'") == {
        "keys": 3
    }
    promised = await core.fetch("SELECT queue, task, subject_id FROM promise")
    assert [tuple(row) for row in promised] == [("delivery", "stock.arrived", shop.variant_id)]


async def test_d07_one_bad_line_refuses_the_whole_list(db: None) -> None:
    shop = await make.shop(keys=0)

    found = await refusal(shop, "A-1\nB\0\nC-3\nA-1\n\nA-1\n")

    assert found == [
        (2, "control_character", None),
        (4, "duplicate_in_file", 1),
        (6, "duplicate_in_file", 1),
    ]
    assert await stored() == 0
    assert await core.value("SELECT count(*) FROM stock_lot") == 0
    assert await core.value("SELECT count(*) FROM audit_log") == 0
    assert await core.value("SELECT count(*) FROM promise") == 0
    job = await core.row("SELECT state, report_json FROM import_job")
    assert job is not None
    assert job["state"] == "refused"
    assert job["report_json"]["counts"] == {"control_character": 1, "duplicate_in_file": 2}


async def test_d07_keys_in_stock_sold_last_year_or_of_another_product_are_found(db: None) -> None:
    shop = await make.shop(keys=0)
    await bring(shop, "SOLD-1\nSTOCK-1\n")
    async with core.transaction():
        order, line = ids.uuid7(), (ids.uuid7(), shop.variant_id, 2)
        await catalogue.claim_sold(order, shop.merchant_id, [line])
        await catalogue.revoke(order)
    await bring(shop, "STOCK-2\n")
    other = await catalogue.add_variant(
        shop.merchant_id,
        shop.product_id,
        {"en": "Other"},
        catalogue.Source(Delivery.STOCK),
        catalogue.PriceList([shop.price], shop.price.currency),
    )

    with pytest.raises(ImportRefused) as caught:
        await bring(shop, "NEW-1\nSTOCK-2\nSOLD-1\nSOLD-1", variant_id=other)

    assert [(one.line, one.fault) for one in caught.value.facts["problems"]] == [
        (2, "duplicate_in_stock"),
        (3, "duplicate_sold"),
        (4, "duplicate_sold"),
    ]
    assert await stored() == 3
    stranger = await make.shop(keys=0)
    assert (await bring(stranger, "STOCK-2\nSOLD-1")).added == 2


async def test_d07_skipping_takes_the_good_lines_and_names_the_others(db: None) -> None:
    shop = await make.shop(keys=0)
    await bring(shop, "OLD-1")

    report = await bring(shop, "A-1\nA-1\nOLD-1\nrtl\u202e\nB-2", skip=True)

    assert report.added == 2
    assert report.counts == {
        "duplicate_in_file": 1,
        "duplicate_in_stock": 1,
        "invisible_character": 1,
    }
    assert [(one.line, one.fault) for one in report.problems] == [
        (2, "duplicate_in_file"),
        (3, "duplicate_in_stock"),
        (4, "invisible_character"),
    ]
    assert await contents(shop) == {"OLD-1", "A-1", "B-2"}


async def test_d07_the_report_is_bounded_and_counts_all(db: None) -> None:
    shop = await make.shop(keys=0)
    text = "\n".join(["X"] * 1_501 + ["bad\0"] * 10)

    with pytest.raises(ImportRefused) as caught:
        await bring(shop, text)

    assert len(caught.value.facts["problems"]) == imports.REPORT_MAX
    assert caught.value.facts["counts"] == {"duplicate_in_file": 1_500, "control_character": 10}
    assert caught.value.facts["problem_count"] == 1_510
    assert caught.value.facts["lines"] == 1_511


async def test_d07_a_hundred_thousand_lines_refuse_whole_or_come_in(db: None) -> None:
    shop = await make.shop(keys=0)
    text = "\r\n".join(f"KEY-{place:06d}-ABCDEF" for place in range(100_000))
    bad = f"{text}\r\n\r\nKEY-000041-ABCDEF"

    assert await refusal(shop, bad) == [(100_002, "duplicate_in_file", 42)]
    assert await stored() == 0
    report = await bring(shop, bad, skip=True)

    assert (report.added, report.counts) == (100_000, {"duplicate_in_file": 1})
    assert await catalogue.available(shop.merchant_id, [shop.variant_id]) == {
        shop.variant_id: 100_000
    }


async def test_j13_no_lines_too_many_and_unknown_encodings(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await make.shop(keys=0)
    monkeypatch.setattr("domain.catalogue.lines.LINES_MAX", 3)

    for source in ("", " \r\n\t\n", "A\nB\nC\nD", b"\xff\xfe\xff", b"caf\xe9"):
        with pytest.raises(FileUnreadable):
            await bring(shop, source)

    assert await stored() == 0
    assert (await bring(shop, "A\r\nB\r\nC".encode("utf-16"))).added == 3


async def test_d07_formats(db: None) -> None:
    shop = await make.shop(keys=0)

    report = await catalogue.import_cards(
        shop.merchant_id, shop.variant_id, 'no,code\n1,"A,1"\n2,B-2', actor=WHO, format=Format.CSV
    )

    assert report.added == 2
    exported = await shelf_keys.export_keys(shop.merchant_id, shop.variant_id, 10, WHO)
    assert shelf_keys.as_csv([one.content for one in exported]) in (
        '"A,1"\r\nB-2\r\n',
        'B-2\r\n"A,1"\r\n',
    )


async def test_c10_the_same_import_again_gives_the_same_report(db: None) -> None:
    shop, job = await make.shop(keys=0), ids.uuid7()

    first = await bring(shop, "A\nB", import_id=job)
    again = await bring(shop, "A\nB", import_id=job)

    assert again == first
    assert await stored() == 2
    with pytest.raises(KeyReused):
        await bring(shop, "A\nC", import_id=job)
    assert await catalogue.report_of([shop.merchant_id], job) == first
    assert await catalogue.report_of([ids.uuid7()], job) is None


async def test_a_refused_import_may_be_tried_again_under_its_key(db: None) -> None:
    shop, job = await make.shop(keys=1), ids.uuid7()
    with pytest.raises(ImportRefused):
        await bring(shop, "A\nA", import_id=job)

    report = await bring(shop, "A\nA", import_id=job, skip=True)

    assert (report.added, report.state) == (1, "done")


async def test_d07_two_imports_of_the_same_keys_at_once_store_each_once(db: None) -> None:
    shop = await make.shop(keys=0)
    text = "\n".join(f"K-{place}" for place in range(500))
    back = "\n".join(reversed(text.split("\n")))

    results = await asyncio.gather(
        bring(shop, text, skip=True), bring(shop, back, skip=True), bring(shop, text, skip=True)
    )

    assert sorted(report.added for report in results) == [0, 0, 500]
    assert await stored() == 500


async def test_progress_is_seen_from_outside_while_it_runs(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, job = await make.shop(keys=0), ids.uuid7()
    monkeypatch.setattr(imports, "CHUNK", 10)
    monkeypatch.setattr(imports, "PROGRESS_S", 0)
    seen: list[tuple[str, int, int]] = []
    tell = imports._apart

    async def look() -> None:
        report = await catalogue.report_of([shop.merchant_id], job)
        assert report is not None
        seen.append((report.state, report.done_lines, await stored()))

    async def tell_and_look(sql: str, *args: object) -> None:
        await tell(sql, *args)
        await asyncio.create_task(look(), context=contextvars.Context())

    monkeypatch.setattr(imports, "_apart", tell_and_look)
    await bring(shop, "\n".join(f"K-{place}" for place in range(40)), import_id=job)
    await look()

    assert seen == [("running", done, 0) for done in (0, 10, 20, 30, 40)] + [("done", 40, 40)]


async def test_an_import_joins_the_callers_transaction(db: None) -> None:
    shop = await make.shop(keys=0)

    with pytest.raises(RuntimeError):
        await roll_back_after_import(shop)

    assert await stored() == 0
    assert (await bring(shop, "A")).added == 1


async def roll_back_after_import(shop: make.Shop) -> None:
    async with core.transaction():
        assert (await bring(shop, "A")).added == 1
        raise RuntimeError


async def test_what_cannot_take_keys_is_refused(db: None) -> None:
    shop = await make.shop(keys=0)
    by_hand = await make.shop(keys=0, delivery=Delivery.MANUAL)
    await core.execute("UPDATE variant SET region = 'HK' WHERE id = $1", shop.variant_id)

    with pytest.raises(NotFound):
        await bring(shop, "A", variant_id=by_hand.variant_id)
    for of, terms in (
        (by_hand, LotTerms()),
        (shop, LotTerms(region="US")),
        (shop, LotTerms(expires_at=clock.now())),
        (shop, LotTerms(cost=Money(-1, "USD"))),
        (shop, LotTerms(note="x" * 201)),
    ):
        with pytest.raises(InputInvalid):
            await bring(of, "A", lot=terms)

    assert await stored() == 0
    assert (await bring(shop, "A", lot=LotTerms(region="HK"))).added == 1
