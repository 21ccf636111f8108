"""The hash chain: it follows commits, not numbers, and tells every change afterwards."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime

import pytest

from domain import ledger
from domain.core import db as core_db
from domain.core.hash_chain import Broken, Head, SealImpossible
from tests import horizon
from tests.domain.ledger_books import Shop


async def _posted(shop: Shop, count: int) -> list[ledger.Journal]:
    legs = [
        shop.transfer("provider_clearing", "merchant_available", 9),
        shop.transfer("provider_clearing", "platform_commission", 1),
    ]
    made = [await ledger.post(f"sale:{number}", legs, kind="sale") for number in range(count)]
    await horizon.passed()
    return made


async def _sabotage(*statements: str) -> None:
    async with core_db.transaction():
        await core_db.execute("SET LOCAL ROLE NONE; SET LOCAL session_replication_role = replica")
        for sql in statements:
            assert await core_db.execute(sql) > 0


async def test_every_journal_is_sealed_once_in_order(db: None) -> None:
    journals = await _posted(Shop(), 5)

    assert await ledger.seal(limit=2) == 2
    assert await ledger.seal(limit=2) == 2
    assert await ledger.seal() == 1
    assert await ledger.seal() == 0

    rows = await core_db.fetch("SELECT * FROM ledger_seal ORDER BY seq")
    assert [row["journal_id"] for row in rows] == [journal.id for journal in journals]
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    hashes = [bytes(32), *(row["hash"] for row in rows)]
    assert [row["prev_hash"] for row in rows] == hashes[:-1]
    assert len(set(hashes)) == 6
    assert await ledger.verify() is None
    assert await ledger.head() == Head(5, hashes[-1])


async def test_the_seal_is_the_hash_of_the_documented_text(db: None) -> None:
    (journal,) = await _posted(Shop(), 1)
    await ledger.seal()
    row = await core_db.row("SELECT * FROM ledger_journal")
    lines = await core_db.fetch("SELECT * FROM ledger_transfer ORDER BY line_no")
    assert row is not None

    def micros(name: str) -> int:
        at: datetime = row[name]
        return round(at.timestamp() * 1_000_000)

    head = (
        f"{journal.id} {row['no']} {row['txid']} 0 6 sale:0 {row['input_hash'].hex()} 4 sale"
        f" {micros('effective_at')} {micros('recorded_at')} - - -"
    )
    text = head + "".join(
        f"\n{t['line_no']} {t['no']} {t['source_no']} {t['source_shard']} {t['target_no']}"
        f" {t['target_shard']} {t['amount_minor']} {t['ccy']} {t['phase']} -"
        f" {t['recorded_on'].toordinal() - 719_163}"
        for t in lines
    )

    assert (
        await core_db.value("SELECT hash FROM ledger_seal")
        == hashlib.sha256(bytes(32) + text.encode()).digest()
    )


async def test_a_late_commit_with_a_lower_number_is_not_skipped(db: None) -> None:
    shop = Shop()
    await shop.pay_in(1)
    begun, release = asyncio.Event(), asyncio.Event()
    legs = [Shop().transfer("provider_clearing", "merchant_available", 9)]
    await ledger.accounts(key for leg in legs for key in (leg.source, leg.target))

    async def slow() -> None:
        async with core_db.transaction():
            await ledger.post("slow", legs, kind="sale", lane=1)
            begun.set()
            await release.wait()

    task = asyncio.create_task(slow())
    await begun.wait()
    # Committed first, numbered later.
    await shop.pay_in(2)

    assert await ledger.seal() == 1
    assert await ledger.seal() == 0
    release.set()
    await task
    assert await ledger.seal() == 2

    assert await ledger.verify() is None
    assert await core_db.value("SELECT count(*) FROM ledger_seal") == 3


async def test_sealers_of_one_chain_do_not_meet(db: None) -> None:
    await _posted(Shop(), 20)

    async def some() -> int:
        # 0 when another one is at it.
        return sum([await ledger.seal(limit=3) for _ in range(4)])

    done = sum(await asyncio.gather(*(some() for _ in range(4))))

    assert done > 0
    assert await ledger.seal() == 20 - done
    assert await ledger.verify() is None


async def test_chains_are_apart(db: None) -> None:
    shop = Shop()
    await _posted(shop, 2)
    await _sabotage("UPDATE ledger_journal SET chain = 1 WHERE key = 'sale:1'")

    assert [await ledger.seal(0), await ledger.seal(1), await ledger.seal(2)] == [1, 1, 0]
    assert [await ledger.verify(chain) for chain in range(3)] == [None, None, None]
    assert await ledger.head(2) is None


OF = "(SELECT id FROM ledger_journal WHERE key = 'sale:{}')"
TAMPERED = [
    ("edited amount", ["UPDATE ledger_transfer SET amount_minor = 2 WHERE journal_id = {2}"], 3),
    ("edited account", ["UPDATE ledger_transfer SET target_no = 77 WHERE journal_id = {2}"], 3),
    ("edited key", ["UPDATE ledger_journal SET key = 'sale:x' WHERE id = {2}"], 3),
    ("edited time", ["UPDATE ledger_journal SET effective_at = 'epoch' WHERE id = {2}"], 3),
    ("dropped line", ["DELETE FROM ledger_transfer WHERE line_no = 2 AND journal_id = {1}"], 2),
    (
        "added line",
        [
            "INSERT INTO ledger_transfer (journal_id, source_no, target_no, amount_minor, line_no,"
            " source_shard, target_shard, ccy, phase) SELECT journal_id, source_no, target_no, 1, 3,"
            " 0, 0, ccy, phase FROM ledger_transfer WHERE line_no = 1 AND journal_id = {1}"
        ],
        2,
    ),
    (
        "swapped lines",
        [
            "UPDATE ledger_transfer SET line_no = 9 WHERE line_no = 1 AND journal_id = {1}",
            "UPDATE ledger_transfer SET line_no = 1 WHERE line_no = 2 AND journal_id = {1}",
            "UPDATE ledger_transfer SET line_no = 2 WHERE line_no = 9 AND journal_id = {1}",
        ],
        2,
    ),
    ("dropped journal", ["DELETE FROM ledger_journal WHERE id = {3}"], 4),
    (
        "journal and seal dropped",
        [
            "DELETE FROM ledger_seal WHERE journal_id = {3}",
            "DELETE FROM ledger_transfer WHERE journal_id = {3}",
            "DELETE FROM ledger_journal WHERE id = {3}",
        ],
        4,
    ),
    (
        "swapped journals",
        [
            "UPDATE ledger_seal SET seq = 99 WHERE seq = 2",
            "UPDATE ledger_seal SET seq = 2 WHERE seq = 3",
            "UPDATE ledger_seal SET seq = 3 WHERE seq = 99",
        ],
        2,
    ),
    ("fork", ["UPDATE ledger_seal SET prev_hash = sha256('x') WHERE seq = 4"], 4),
    ("edited seal", ["UPDATE ledger_seal SET hash = sha256('x') WHERE seq = 4"], 4),
    ("cut tail", ["DELETE FROM ledger_seal WHERE seq > 3"], 4),
    (
        "cut tail with its journals",
        [
            "DELETE FROM ledger_transfer WHERE journal_id IN"
            " (SELECT journal_id FROM ledger_seal WHERE seq > 3)",
            "DELETE FROM ledger_journal WHERE id IN"
            " (SELECT journal_id FROM ledger_seal WHERE seq > 3)",
            "DELETE FROM ledger_seal WHERE seq > 3",
        ],
        4,
    ),
]


@pytest.mark.parametrize(
    ("statements", "seq"), [row[1:] for row in TAMPERED], ids=[row[0] for row in TAMPERED]
)
async def test_l25_every_change_is_named(db: None, statements: list[str], seq: int) -> None:
    await _posted(Shop(), 5)
    await ledger.seal()
    known = await ledger.head()
    assert await ledger.verify(known=known) is None

    await _sabotage(
        *(sql.format(*(OF.format(number) for number in range(5))) for sql in statements)
    )

    broken = await ledger.verify(known=known)
    assert broken is not None
    assert broken.seq == seq, broken


async def test_l25_a_chain_rewritten_as_a_whole_is_told_by_a_known_head(db: None) -> None:
    await _posted(Shop(), 3)
    await ledger.seal()
    known = await ledger.head()

    await _sabotage("UPDATE ledger_transfer SET amount_minor = 2", "DELETE FROM ledger_seal")
    assert await ledger.seal() == 3

    assert await ledger.verify() is None
    broken = await ledger.verify(known=known)
    assert broken is not None
    assert (broken.seq, broken.reason) == (3, "another chain than the known head's")


async def test_l25_a_journal_slipped_in_behind_the_head_is_told(db: None) -> None:
    await _posted(Shop(), 3)
    await ledger.seal()

    # INSERT is what the books allow; the chain must tell that this one came too late.
    forged = await core_db.value(
        "INSERT INTO ledger_journal (id, txid, key, input_hash, kind, effective_at, recorded_at)"
        " SELECT gen_random_uuid(), '3', 'sale:forged', input_hash, kind, effective_at, recorded_at"
        " FROM ledger_journal WHERE key = 'sale:0' RETURNING id"
    )

    assert await ledger.seal() == 0
    broken = await ledger.verify()
    assert broken == Broken(3, forged, "journal without a seal behind the head")


async def test_a_transaction_counter_that_went_back_stops_the_sealer(db: None) -> None:
    await _posted(Shop(), 1)
    await ledger.seal()
    await _sabotage("UPDATE ledger_journal SET txid = (1::bigint << 62)::text::xid8")

    with pytest.raises(SealImpossible):
        await ledger.seal()
