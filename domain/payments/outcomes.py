"""What a set makes of the words it has heard: their verdicts, the attempts, the intents; one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from domain.core import db
from domain.payments.rules import LIVE

# (no of the word, verdict, note)
Verdict = tuple[int, str, str | None]
# (attempt, state, processed_minor, processed_ccy, provider_ref)
Outcome = tuple[UUID, str, int | None, str | None, str]

_CONCLUDE = """
WITH judged AS (
    UPDATE inbox_event i SET verdict = w.verdict, note = w.note
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS w(no, verdict, note) WHERE i.no = w.no
), moved AS (
    UPDATE payment_attempt a SET state = c.state, processed_minor = coalesce(c.minor, a.processed_minor),
        processed_ccy = coalesce(c.ccy, a.processed_ccy), provider_ref = coalesce(a.provider_ref, c.ref),
        next_check_at = CASE WHEN c.state = ANY($9) THEN a.next_check_at END
    FROM unnest($4::uuid[], $5::text[], $6::bigint[], $7::text[], $8::text[]) AS c(id, state, minor, ccy, ref)
    WHERE a.id = c.id
)
UPDATE payment_intent i SET state = n.state FROM unnest($10::uuid[], $11::text[]) AS n(order_id, state)
WHERE i.order_id = n.order_id AND i.state <> n.state
"""


async def conclude(
    verdicts: Sequence[Verdict], outcomes: Sequence[Outcome], intents: Mapping[UUID, str]
) -> None:
    """Write the verdicts of words, the outcomes of attempts and the states of intents by order.

    The caller holds the locks of the words and of the orders.
    """
    if verdicts or outcomes or intents:
        await db.execute(
            _CONCLUDE,
            *_columns(verdicts, 3),
            *_columns(outcomes, 5),
            list(LIVE),
            list(intents),
            list(intents.values()),
        )


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
