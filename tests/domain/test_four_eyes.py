"""H29: two people, exactly what was asked, once, in time; both are in the audit log."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from domain.core import clock, db, four_eyes, ids
from domain.core.errors import NotFound
from domain.core.four_eyes import (
    Approval,
    ApprovalClosed,
    ApprovalDiffers,
    Approver,
    ApproverTooNew,
    SamePerson,
)
from domain.core.settings import settings
from tests.database import as_owner

ANN, BEN, CLEO = (ids.uuid7() for _ in range(3))
REQUEST = {"amount": "19.90", "reason": "seen at the bank"}


@pytest.fixture(autouse=True)
async def _empty(db: None) -> None:
    """Every test needs the database."""


async def asked(**options: Any) -> Approval:
    return await four_eyes.propose(
        ids.uuid7(), "test.act", ids.uuid7(), REQUEST, asked_by=ANN, **options
    )


def eyes(of: UUID) -> Approver:
    """Somebody who has been who they are for a year."""
    return Approver(of, clock.now() - timedelta(days=365))


async def approve(
    of: Approval, by: UUID, *, kind: str = "test.act", digest: bytes = b""
) -> Approval:
    async with db.transaction():
        return await four_eyes.approve(of.id, kind, digest or of.request_hash, approved_by=eyes(by))


async def audits() -> list[tuple[str, str]]:
    rows = await db.fetch("SELECT action, actor_id FROM audit_log ORDER BY no")
    return [(row["action"], row["actor_id"]) for row in rows]


async def test_h29_another_person_approves_exactly_what_was_asked() -> None:
    of = await asked()

    done = await approve(of, BEN)

    assert (done.state, done.approved_by, done.request) == ("approved", BEN, REQUEST)
    assert done.request_hash == four_eyes.digest("test.act", of.subject_id, REQUEST)
    assert await audits() == [
        ("test.act.asked", ids.encode("acc", ANN)),
        ("test.act.approved", ids.encode("acc", BEN)),
    ]
    assert await four_eyes.waiting(None, 10) == []


async def test_h29_the_same_person_is_refused() -> None:
    of = await asked()

    with pytest.raises(SamePerson):
        await approve(of, ANN)

    assert [one.id for one in await four_eyes.waiting(None, 10)] == [of.id]
    assert await audits() == [("test.act.asked", ids.encode("acc", ANN))]


async def test_h29_the_table_itself_refuses_the_same_person() -> None:
    of = await asked()

    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(
            "UPDATE approval SET state = 'approved', approved_by = $2, approved_at = now()"
            " WHERE id = $1",
            of.id,
            ANN,
        )


@pytest.mark.parametrize("column", ["request_json = '{}'", "expires_at = now() + interval '9 d'"])
async def test_h29_what_was_asked_never_changes(column: str) -> None:
    of = await asked()

    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner(f"UPDATE approval SET {column} WHERE id = $1", of.id)
    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner("DELETE FROM approval")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await db.execute(f"UPDATE approval SET {column} WHERE id = $1", of.id)


async def test_h29_another_hash_is_not_what_was_asked() -> None:
    of = await asked()
    other = four_eyes.digest("test.act", of.subject_id, {**REQUEST, "amount": "29.90"})

    with pytest.raises(ApprovalDiffers):
        await approve(of, BEN, digest=other)

    assert await audits() == [("test.act.asked", ids.encode("acc", ANN))]


async def test_h29_of_another_kind_there_is_no_such_approval() -> None:
    of = await asked()

    with pytest.raises(NotFound):
        await approve(of, BEN, kind="other.act")


async def test_h29_after_its_time_nobody_approves_it() -> None:
    of = await asked(lasting=timedelta(hours=24))

    clock.shift(timedelta(hours=24, seconds=1))
    try:
        with pytest.raises(ApprovalClosed):
            await approve(of, BEN)
        assert await four_eyes.waiting(None, 10) == []
    finally:
        clock.shift(timedelta())

    assert await db.value("SELECT state FROM approval") == "open"


async def test_h29_two_approve_at_once_one_of_them_has() -> None:
    of = await asked()

    said = await asyncio.gather(
        *(approve(of, by) for by in (BEN, CLEO, BEN, CLEO)), return_exceptions=True
    )

    done = [one for one in said if isinstance(one, Approval)]
    assert len(done) == 1
    assert all(isinstance(one, ApprovalClosed) for one in said if one is not done[0])
    assert len(await audits()) == 2


async def test_h29_without_its_effect_nothing_is_approved() -> None:
    of = await asked()

    async def fail() -> None:
        async with db.transaction():
            await four_eyes.approve(of.id, "test.act", of.request_hash, approved_by=eyes(BEN))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert (await approve(of, BEN)).state == "approved"
    assert len(await audits()) == 2


async def test_h29_what_waits_is_read_in_pages_oldest_first() -> None:
    made = [await asked() for _ in range(3)]

    first = await four_eyes.waiting(None, 2)
    rest = await four_eyes.waiting((first[-1].asked_at, first[-1].id), 2)
    back = await four_eyes.waiting((rest[0].asked_at, rest[0].id), 9, backward=True)

    assert [one.id for one in (*first, *rest)] == [one.id for one in made]
    assert [one.id for one in back] == [one.id for one in reversed(first)]


async def ended() -> tuple[str, UUID | None, str]:
    row = await db.row("SELECT state, ended_by, note FROM approval")
    assert row is not None
    return row["state"], row["ended_by"], row["note"]


async def test_h29_another_person_declines_and_it_is_over() -> None:
    of = await asked()

    done = await four_eyes.decline(of.id, by=BEN, note="not ours")

    assert done.state == "declined"
    assert await ended() == ("declined", BEN, "not ours")
    assert await four_eyes.waiting(None, 10) == []
    for attempt in (approve(of, CLEO), four_eyes.decline(of.id, by=BEN)):
        with pytest.raises(ApprovalClosed):
            await attempt
    assert await audits() == [
        ("test.act.asked", ids.encode("acc", ANN)),
        ("test.act.declined", ids.encode("acc", BEN)),
    ]


async def test_h29_who_asked_takes_it_back() -> None:
    of = await asked()

    done = await four_eyes.decline(of.id, by=ANN)

    assert done.state == "withdrawn"
    assert await ended() == ("withdrawn", ANN, "")
    with pytest.raises(ApprovalClosed):
        await approve(of, BEN)
    assert (await audits())[-1] == ("test.act.withdrawn", ids.encode("acc", ANN))


async def test_h29_what_holds_at_once_cannot_be_stopped_any_more() -> None:
    of = await asked()
    await approve(of, BEN)

    with pytest.raises(ApprovalClosed):
        await four_eyes.decline(of.id, by=CLEO)
    with pytest.raises(NotFound):
        await four_eyes.decline(ids.uuid7(), by=CLEO)

    assert await ended() == ("approved", None, "")


async def test_h29_while_it_cools_down_anybody_stops_it_and_then_nobody() -> None:
    first = await asked(cool_down=timedelta(hours=72))
    done = await approve(first, BEN)
    assert done.usable_at is not None
    left = done.usable_at - clock.now()
    assert timedelta(hours=71, minutes=59) < left <= timedelta(hours=72)
    assert await four_eyes.waiting(None, 10) == []
    assert [one.id for one in await four_eyes.waiting(None, 10, with_cooling=True)] == [first.id]

    stopped = await four_eyes.decline(first.id, by=CLEO)

    assert (stopped.state, stopped.approved_by, stopped.ended_by) == ("stopped", BEN, CLEO)
    second = await asked(cool_down=timedelta(hours=72))
    await approve(second, BEN)
    clock.shift(timedelta(hours=72, seconds=1))
    try:
        with pytest.raises(ApprovalClosed):
            await four_eyes.decline(second.id, by=CLEO)
        assert await four_eyes.waiting(None, 10, with_cooling=True) == []
    finally:
        clock.shift(timedelta())
    assert await db.value("SELECT array_agg(state ORDER BY id) FROM approval") == [
        "stopped",
        "approved",
    ]


async def test_h29_approved_and_declined_at_once_one_of_them_holds() -> None:
    for _ in range(5):
        of = await asked()

        said = await asyncio.gather(
            *(approve(of, by) for by in (BEN, CLEO) * 5),
            *(four_eyes.decline(of.id, by=by) for by in (ANN, BEN) * 5),
            return_exceptions=True,
        )

        done = [one for one in said if isinstance(one, Approval)]
        assert len(done) == 1
        assert all(isinstance(one, ApprovalClosed) for one in said if one is not done[0])
        state = await db.value("SELECT state FROM approval WHERE id = $1", of.id)
        assert state == done[0].state


async def test_h29_what_nobody_approved_in_time_expires_and_is_undone_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undone: list[UUID] = []

    async def undo(of: Approval) -> None:
        assert db.in_transaction()
        undone.append(of.id)

    monkeypatch.setitem(four_eyes.undo, "test.act", undo)
    of, later = await asked(), await asked(lasting=timedelta(hours=48))

    assert await four_eyes.expire() == 0
    clock.shift(timedelta(hours=25))
    try:
        assert sum(await asyncio.gather(*(four_eyes.expire() for _ in range(5)))) == 1
        assert await four_eyes.expire() == 0
    finally:
        clock.shift(timedelta())

    assert undone == [of.id]
    rows = await db.fetch("SELECT id, state, ended_by FROM approval ORDER BY id")
    assert [tuple(row) for row in rows] == [(of.id, "expired", None), (later.id, "open", None)]
    assert (await audits())[-1] == ("test.act.expired", "timetable")


async def test_h29_what_is_declined_is_undone_or_not_declined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(of: Approval) -> None:
        raise ApprovalClosed()

    monkeypatch.setitem(four_eyes.undo, "test.act", refuse)
    of = await asked()

    with pytest.raises(ApprovalClosed):
        await four_eyes.decline(of.id, by=BEN)

    assert await ended() == ("open", None, "")
    assert await audits() == [("test.act.asked", ids.encode("acc", ANN))]


async def test_h29_a_fresh_person_is_no_second_pair_of_eyes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = settings().model_copy(update={"four_eyes_settle_hours": 24})
    monkeypatch.setattr(four_eyes, "settings", lambda: changed)
    of = await asked()
    since = clock.now() - timedelta(hours=23, minutes=59)

    async def by(settled_at: datetime) -> None:
        async with db.transaction():
            person = Approver(BEN, settled_at)
            await four_eyes.approve(of.id, "test.act", of.request_hash, approved_by=person)

    with pytest.raises(ApproverTooNew) as refused:
        await by(since)

    assert refused.value.facts == {"until": since + timedelta(hours=24)}
    assert await db.value("SELECT state FROM approval") == "open"
    await by(clock.now() - timedelta(hours=24, seconds=1))
    assert await db.value("SELECT state FROM approval") == "approved"


@pytest.mark.parametrize(
    "change",
    [
        "state = 'declined', ended_at = now(), ended_by = asked_by",
        "state = 'withdrawn', ended_at = now(), ended_by = gen_random_uuid()",
        "state = 'expired'",
        "state = 'stopped'",
        "state = 'approved', approved_by = gen_random_uuid(), approved_at = now(), usable_at = now()",
    ],
)
async def test_h29_the_table_itself_refuses_a_state_that_does_not_fit(change: str) -> None:
    await asked()

    with pytest.raises((asyncpg.CheckViolationError, asyncpg.RestrictViolationError)):
        await db.execute(f"UPDATE approval SET {change}")

    assert await db.value("SELECT state FROM approval") == "open"


async def test_h29_what_is_over_stays_over_whoever_writes_the_sql() -> None:
    of = await asked(cool_down=timedelta(hours=1))
    await approve(of, BEN)
    for change in ("usable_at = now()", "state = 'open', approved_by = NULL, approved_at = NULL"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await as_owner(f"UPDATE approval SET {change}")
    await four_eyes.decline(of.id, by=CLEO)

    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner("UPDATE approval SET state = 'approved', ended_at = NULL, ended_by = NULL")


async def test_h29_every_step_owes_its_mails_once() -> None:
    of = await asked(cool_down=timedelta(hours=72))
    await approve(of, BEN)
    await four_eyes.decline(of.id, by=CLEO)

    rows = await db.fetch(
        "SELECT task, round(extract(epoch FROM due_at - created_at) / 3600) AS hours FROM promise"
        " WHERE subject_id = $1 ORDER BY created_at",
        of.id,
    )
    assert {(row["task"], int(row["hours"])) for row in rows} == {
        ("approval.asked", 0),
        ("approval.approved", 0),
        ("approval.due", 48),
        ("approval.ended", 0),
    }
