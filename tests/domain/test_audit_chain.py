"""The chain of the audit log: it follows commits, tells every change afterwards, and names the first bad row."""

from __future__ import annotations

import asyncio
import hashlib
from uuid import UUID

import pytest
from asyncpg.exceptions import RestrictViolationError

from domain.core import audit, audit_chain, ids
from domain.core import db as core
from domain.core.hash_chain import Broken, Head, SealImpossible
from tests import horizon
from tests.database import as_owner
from workers import audit as sealer

ACTOR = audit.Actor("merchant", "acc_x", request_id="req-1", address="203.0.113.9")
MERCHANT = UUID(int=7)


async def write(count: int, *, after: int = 0) -> None:
    """Rows 1 to `count`, each in a transaction of its own; row n tells of subject n."""
    for number in range(after + 1, after + count + 1):
        async with core.transaction():
            facts = {"before": {"a": number}, "after": {"a": number + 1}}
            await audit.record(MERCHANT, ACTOR, "thing.change", UUID(int=number), **facts)
    await horizon.passed()


async def sabotage(*statements: str) -> None:
    """As a superuser who switches the triggers off."""
    async with core.transaction():
        await core.execute("SET LOCAL ROLE NONE; SET LOCAL session_replication_role = replica")
        for sql in statements:
            await core.execute(sql)


async def test_every_row_is_sealed_once_in_order(db: None) -> None:
    await write(5)

    assert [await audit_chain.seal(limit=2) for _ in range(4)] == [2, 2, 1, 0]

    rows = await core.fetch("SELECT * FROM audit_seal ORDER BY seq")
    assert [row["seq"] for row in rows] == [row["audit_no"] for row in rows] == [1, 2, 3, 4, 5]
    hashes = [bytes(32), *(row["hash"] for row in rows)]
    assert [row["prev_hash"] for row in rows] == hashes[:-1]
    assert len(set(hashes)) == 6
    assert await audit_chain.verify() is None
    assert await audit_chain.head() == Head(5, hashes[-1])
    assert await audit_chain.unsealed() == 0


async def test_the_seal_is_the_hash_of_the_documented_text(db: None) -> None:
    await write(1)
    await audit_chain.seal()
    row = await core.row("SELECT *, txid::text AS x, facts_json::text AS facts FROM audit_log")
    assert row is not None
    micros = round(row["recorded_at"].timestamp() * 1_000_000)
    facts = '{"after": {"a": 2}, "before": {"a": 1}}'

    text = (
        f"1 {row['x']} {MERCHANT} 8 merchant 5 acc_x 12 thing.change {UUID(int=1)} 5 req-1 11 203.0.113.9"
        f" {micros} {len(facts)} {facts}"
    )

    assert row["facts"] == facts
    assert (
        await core.value("SELECT hash FROM audit_seal")
        == hashlib.sha256(bytes(32) + text.encode()).digest()
    )


async def test_a_late_commit_with_a_lower_number_is_not_skipped(db: None) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with core.transaction():
            await audit.record(None, ACTOR, "slow", UUID(int=99))
            begun.set()
            await release.wait()

    task = asyncio.create_task(slow())
    await begun.wait()
    async with core.transaction():
        await audit.record(None, ACTOR, "quick", UUID(int=98))

    assert await audit_chain.seal() == 0
    release.set()
    await task
    await horizon.passed()
    assert await audit_chain.seal() == 2
    assert await audit_chain.verify() is None


async def test_sealers_do_not_meet_and_go_on_after_a_restart(db: None) -> None:
    await write(20)

    async def some() -> int:
        return sum([await audit_chain.seal(limit=3) for _ in range(4)])

    done = sum(await asyncio.gather(*(some() for _ in range(4))))
    while await sealer.seal() == 0:
        pass

    assert done > 0
    assert await core.value("SELECT count(*) FROM audit_seal") == 20
    assert await audit_chain.verify() is None


async def test_a_row_that_rolled_back_leaves_no_gap(db: None) -> None:
    await write(1)

    async def fails() -> None:
        async with core.transaction():
            await audit.record(None, ACTOR, "never", UUID(int=99))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fails()
    await write(1, after=1)

    assert await audit_chain.seal() == 2
    assert await audit_chain.verify() is None


# what is done → (place in the chain, subject of the row that is named)
TAMPERED: list[tuple[str, list[str], int, int | None]] = [
    ("edited facts", ["UPDATE audit_log SET facts_json = '{{}}' WHERE no = {3}"], 3, 3),
    ("edited action", ["UPDATE audit_log SET action = 'x' WHERE no = {3}"], 3, 3),
    ("edited actor", ["UPDATE audit_log SET actor_id = 'acc_y' WHERE no = {3}"], 3, 3),
    ("edited address", ["UPDATE audit_log SET address = NULL WHERE no = {3}"], 3, 3),
    ("edited request", ["UPDATE audit_log SET request_id = NULL WHERE no = {3}"], 3, 3),
    ("edited merchant", ["UPDATE audit_log SET merchant_id = NULL WHERE no = {3}"], 3, 3),
    ("edited time", ["UPDATE audit_log SET recorded_at = 'epoch' WHERE no = {3}"], 3, 3),
    (
        "edited subject",
        ["UPDATE audit_log SET subject_id = gen_random_uuid() WHERE no = {3}"],
        3,
        3,
    ),
    (
        "text moved to the next field",
        ["UPDATE audit_log SET actor_kind = 'merchant 5', actor_id = 'acc_x' WHERE no = {3}"],
        3,
        3,
    ),
    ("two edited, the first is named", ["UPDATE audit_log SET action = 'x' WHERE no >= {2}"], 2, 2),
    ("deleted", ["DELETE FROM audit_log WHERE no = {3}"], 3, 3),
    ("deleted the last", ["DELETE FROM audit_log WHERE no = {5}"], 5, 5),
    (
        "deleted with its seal",
        ["DELETE FROM audit_seal WHERE audit_no = {3}", "DELETE FROM audit_log WHERE no = {3}"],
        3,
        None,
    ),
    (
        "deleted, and the later ones moved up",
        [
            "DELETE FROM audit_seal WHERE seq = 3",
            "DELETE FROM audit_log WHERE no = {3}",
            "UPDATE audit_seal SET seq = 3 WHERE seq = 4",
            "UPDATE audit_seal SET seq = 4 WHERE seq = 5",
        ],
        3,
        4,
    ),
    (
        "reordered",
        [
            "UPDATE audit_seal SET seq = 99 WHERE seq = 2",
            "UPDATE audit_seal SET seq = 2 WHERE seq = 4",
            "UPDATE audit_seal SET seq = 4 WHERE seq = 99",
        ],
        2,
        4,
    ),
    (
        "numbers swapped",
        [
            "UPDATE audit_log l SET action = 'x', subject_id = o.subject_id FROM audit_log o"
            " WHERE l.no = {2} AND o.no = {4}",
        ],
        2,
        2,
    ),
    ("fork", ["UPDATE audit_seal SET prev_hash = sha256('x') WHERE seq = 4"], 4, 4),
    ("edited seal", ["UPDATE audit_seal SET hash = sha256('x') WHERE seq = 4"], 4, 4),
    ("emptied log", ["TRUNCATE audit_log"], 1, 1),
    (
        "cut tail",
        ["DELETE FROM audit_log WHERE no > {3}", "DELETE FROM audit_seal WHERE seq > 3"],
        4,
        None,
    ),
    ("emptied both", ["TRUNCATE audit_log", "TRUNCATE audit_seal"], 1, None),
]


@pytest.mark.parametrize(
    ("statements", "seq", "subject"),
    [row[1:] for row in TAMPERED],
    ids=[row[0] for row in TAMPERED],
)
async def test_h30_the_first_bad_row_is_named(
    db: None, statements: list[str], seq: int, subject: int | None
) -> None:
    await write(5)
    await audit_chain.seal()
    known = await audit_chain.head()
    assert known is not None
    assert await audit_chain.verify(known=known) is None
    rows = await core.fetch("SELECT no FROM audit_log ORDER BY subject_id")
    numbers = [row["no"] for row in rows]

    await sabotage(*(sql.format(*(str(no) for no in [0, *numbers])) for sql in statements))

    broken = await audit_chain.verify(known=known)
    assert broken is not None
    named = None if subject is None else numbers[subject - 1]
    assert (broken.seq, broken.subject) == (seq, named), broken
    told = await audit_chain.verify()
    assert (told is None) == (
        statements[-1].startswith("TRUNCATE audit_seal") or "seq > 3" in statements[-1]
    )


async def test_h30_a_row_slipped_in_behind_the_head_is_named(db: None) -> None:
    await write(3)
    await audit_chain.seal()

    # INSERT is what the application may do; the chain tells that this one came too late.
    forged = await core.value(
        "INSERT INTO audit_log (txid, actor_kind, actor_id, action, subject_id, facts_json, recorded_at)"
        " VALUES ('3', 'merchant', 'acc_x', 'forged', $1, '{}', '2020-01-01') RETURNING no",
        UUID(int=9),
    )

    assert await audit_chain.seal() == 0
    assert await audit_chain.verify() == Broken(3, forged, "row without a seal behind the head")


async def test_h30_a_chain_written_anew_is_told_by_a_known_head(db: None) -> None:
    await write(3)
    await audit_chain.seal()
    known = await audit_chain.head()

    await sabotage("UPDATE audit_log SET action = 'x'", "DELETE FROM audit_seal")
    assert await audit_chain.seal() == 3

    assert await audit_chain.verify() is None
    broken = await audit_chain.verify(known=known)
    assert broken is not None
    assert (broken.seq, broken.reason) == (3, "another chain than the known head's")


async def test_a_chain_whose_last_row_is_gone_is_not_continued(db: None) -> None:
    await write(2)
    await audit_chain.seal()
    await sabotage("DELETE FROM audit_log WHERE no = (SELECT max(no) FROM audit_log)")
    await write(1, after=2)

    with pytest.raises(SealImpossible):
        await audit_chain.seal()
    assert await core.value("SELECT count(*) FROM audit_seal") == 2


async def test_the_owner_of_the_tables_is_stopped_too(db: None) -> None:
    await write(1)
    await audit_chain.seal()
    for sql in ("UPDATE audit_seal SET seq = 2", "DELETE FROM audit_seal", "TRUNCATE audit_seal"):
        with pytest.raises(RestrictViolationError, match="append-only"):
            await as_owner(sql)
    assert await core.value("SELECT seq FROM audit_seal") == 1


@pytest.mark.parametrize(
    "text", ["", "1", "1:", "0:" + "0" * 64, "1:" + "g" * 64, "1:" + "0" * 63, "x:" + "0" * 64]
)
def test_what_is_no_head_is_none(text: str) -> None:
    assert Head.read(text) is None


def test_a_head_is_read_as_it_was_printed() -> None:
    found = Head(12, bytes(range(32)))

    assert Head.read(f" {found}\n") == found


async def test_an_actor_keeps_from_where_it_was_named(db: None) -> None:
    audit.comes_from("198.51.100.7")
    actor = audit.Actor("merchant", ids.encode("acc", MERCHANT))
    audit.comes_from(None)

    async with core.transaction():
        await audit.record(MERCHANT, actor, "thing.change", UUID(int=1))

    assert await core.value("SELECT address FROM audit_log") == "198.51.100.7"
