"""The inbox: every proved word of a provider becomes one row before anything else happens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from domain.core import bell, clock, db, failpoint, ids
from domain.core.money import Money
from domain.core.together import Together
from domain.payments import accounts
from domain.payments.models import Attempt, Word
from domain.payments.ports import ChargeAnswer, ChargeState, Fact
from domain.payments.saved import seal_word

ATTEMPT_PREFIX = "pay"
REFUND_PREFIX = "ref"

_RECEIVE = """
INSERT INTO inbox_event (provider, provider_account, event_id, lane, reference_id, body_hash, facts_json)
SELECT f.provider, f.account, f.event_id, coalesce(a.lane, 0), f.reference_id, f.body_hash, f.facts
FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bytea[], $6::jsonb[])
    AS f(provider, account, event_id, reference_id, body_hash, facts)
LEFT JOIN payment_attempt a ON a.id = f.reference_id
ON CONFLICT DO NOTHING RETURNING provider, provider_account, event_id, lane
"""


async def receive(provider: str, account: str, headers: Mapping[str, str], body: bytes) -> int:
    """Prove a callback on its raw bytes and store its facts; the number of facts that were new.

    Errors: CallbackRefused, after which nothing has changed.
    """
    facts = await accounts.heard(provider, account, headers, body)
    failpoint.reach("inbox.before_tx")
    return await put(provider, account, facts, body=body)


async def put(provider: str, account: str, facts: Sequence[Fact], *, body: bytes) -> int:
    """Store proved facts (a callback's or a query's) once each and wake the lanes they belong to.

    Joins the caller's transaction when there is one.
    """
    if not facts:
        return 0
    proved = _Proved(provider, account, facts, hashlib.sha256(body).digest())
    if db.in_transaction():  # commits with the caller's change, not with other callbacks
        [count] = await _put_set([proved])
        return count
    return await _put(proved)


@dataclass(frozen=True, slots=True)
class _Proved:
    """The facts of one callback or answer."""

    provider: str
    account: str
    facts: Sequence[Fact]
    body_hash: bytes


async def _put_set(proved: Sequence[_Proved]) -> list[int]:
    """Store the facts of many callbacks in one statement; how many of each were new.

    The same fact twice in a set is new once, for the first.
    """
    pairs = [(one, fact) for one in proved for fact in one.facts]
    rows = await db.fetch(
        _RECEIVE,
        [one.provider for one, _ in pairs],
        [one.account for one, _ in pairs],
        [fact.event_id for _, fact in pairs],
        [_reference(fact) for _, fact in pairs],
        [one.body_hash for one, _ in pairs],
        [_facts_json(one.provider, one.account, fact) for one, fact in pairs],
    )
    failpoint.reach("inbox.after_commit")
    if rows:
        lanes = {str(row["lane"]) for row in rows}
        if db.in_transaction():
            db.after_commit(lambda: bell.ring(bell.CAPTURES, *lanes))
        else:
            await bell.ring(bell.CAPTURES, *lanes)
    new = {(row["provider"], row["provider_account"], row["event_id"]) for row in rows}
    counts = []
    for one in proved:
        mine = {(one.provider, one.account, fact.event_id) for fact in one.facts} & new
        new -= mine
        counts.append(len(mine))
    return counts


_put = Together("inbox.put", _put_set)


def _reference(fact: Fact) -> UUID | None:
    try:
        return ids.decode(
            fact.reference, REFUND_PREFIX if fact.subject == "refund" else ATTEMPT_PREFIX
        )
    except ids.IdInvalid:
        return None


def _facts_json(provider: str, account: str, fact: Fact) -> dict[str, object]:
    attempt_id = _reference(fact) if fact.saved and fact.subject != "refund" else None
    saved: dict[str, str] = {}
    if fact.saved is not None and attempt_id is not None:
        saved = seal_word(provider, account, attempt_id, fact.saved)
    proved = {"authenticated": True} if fact.is_authenticated else {}
    return {
        **saved,
        **proved,
        "subject": fact.subject,
        "reference": fact.reference,
        "provider_ref": fact.provider_ref,
        "state": str(fact.state),
        "minor": fact.amount.minor,
        "ccy": fact.amount.currency,
        "at": fact.occurred_at.isoformat(),
    }


class Waiting(NamedTuple):
    """Words of a lane, and whether captures wait there as well (true without words: nobody has looked)."""

    words: list[Word]
    has_due: bool


_WAITING = """
SELECT i.no, i.provider, i.provider_account, i.reference_id, i.facts_json,
    (SELECT a.order_id FROM payment_attempt a WHERE a.id = i.reference_id) AS order_id,
    (SELECT EXISTS (SELECT FROM capture WHERE lane = $1 AND state = 'captured')) AS has_due
FROM inbox_event i WHERE i.lane = $1 AND i.verdict IS NULL
ORDER BY i.no LIMIT $2 FOR NO KEY UPDATE OF i SKIP LOCKED
"""


async def waiting(lane: int, limit: int) -> Waiting:
    """Words of a lane that nobody has judged, oldest first, locked for this transaction.

    Errors: WordUnreadable.
    """
    rows = await db.fetch(_WAITING, lane, limit)
    return Waiting([_word(row) for row in rows], rows[0]["has_due"] if rows else True)


class WordUnreadable(Exception):
    """The stored facts of inbox row `no` are not what this version writes."""

    def __init__(self, no: int) -> None:
        super().__init__(no)
        self.no = no


def _word(row: db.Record) -> Word:
    facts = row["facts_json"]
    try:
        return Word(
            row["no"],
            row["provider"],
            row["provider_account"],
            facts["subject"],
            row["reference_id"],
            row["order_id"],
            facts["provider_ref"],
            facts["state"],
            Money(facts["minor"], facts["ccy"]),
            datetime.fromisoformat(facts["at"]),
            facts.get("token"),
            facts.get("label", ""),
            facts.get("authenticated", False) is True,
        )
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise WordUnreadable(row["no"]) from error


async def unpark(reference_id: UUID) -> int:
    """Judge parked words of an attempt again, now that the attempt is known."""
    return await db.execute(
        "UPDATE inbox_event SET verdict = NULL, note = NULL WHERE reference_id = $1 AND verdict = 'parked'",
        reference_id,
    )


async def put_answer(attempt: Attempt, said: ChargeAnswer) -> None:
    """Store a provider's answer to a query as a word of its own; an answer that says nothing new is not stored."""
    if said.state in (ChargeState.UNKNOWN, attempt.state):
        return
    amount = said.processed or Money(0, attempt.ccy)
    if said.state is ChargeState.CAPTURED and said.processed is None:
        amount = attempt.requested
    fact = Fact(
        event_id=f"query:{attempt.id}:{said.state}:{amount.minor}{amount.currency}",
        subject="attempt",
        reference=ids.encode(ATTEMPT_PREFIX, attempt.id),
        provider_ref=said.provider_ref or "",
        state=said.state,
        amount=amount,
        occurred_at=clock.now(),
        saved=said.saved,
        is_authenticated=said.is_authenticated,
    )
    await put(attempt.provider, attempt.provider_account, [fact], body=fact.event_id.encode())
