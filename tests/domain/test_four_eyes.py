"""H29: two people, exactly what was asked, once, in time; both are in the audit log."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from domain.core import clock, db, four_eyes, ids
from domain.core.errors import NotFound
from domain.core.four_eyes import Approval, ApprovalClosed, ApprovalDiffers, SamePerson
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


async def approve(
    of: Approval, by: UUID, *, kind: str = "test.act", digest: bytes = b""
) -> Approval:
    async with db.transaction():
        return await four_eyes.approve(of.id, kind, digest or of.request_hash, approved_by=by)


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
            await four_eyes.approve(of.id, "test.act", of.request_hash, approved_by=BEN)
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
