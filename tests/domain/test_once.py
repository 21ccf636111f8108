"""Idempotency keys are kept for thirty days and not longer, whatever they hold."""

from __future__ import annotations

from domain.core import db as database
from domain.core import once
from domain.core.once import Once


async def test_w12_a_key_is_kept_for_thirty_days_and_then_new_again(db: None) -> None:
    kept = Once("guest:a/pay", "kept", b"h" * 32)
    gone = Once("guest:a/pay", "gone", b"h" * 32)
    for one, age in ((kept, "29 days 23 hours"), (gone, "30 days 1 hour")):
        async with database.transaction():
            assert await one.claim({"order": one.key}) is None
        await database.execute(
            "UPDATE idempotency SET created_at = clock_timestamp() - $2::text::interval WHERE key = $1",
            one.key,
            age,
        )

    assert await once.prune() == 1
    assert await once.prune() == 0

    async with database.transaction():
        assert await Once("guest:a/pay", "kept", b"h" * 32).claim({}) == {"order": "kept"}
        # Forgotten: other input under the same key is a new call, not KEY_REUSED.
        assert await Once("guest:a/pay", "gone", b"x" * 32).claim({"order": "new"}) is None
