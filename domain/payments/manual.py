"""Money that people saw arrive, or sent back: written down with where it can be seen, each evidence once.

What arrived is an attempt and a word of the provider `manual`, judged like every other word.
"""

from __future__ import annotations

import unicodedata
from uuid import UUID

from domain.core import clock, db, ids
from domain.core.errors import DomainError
from domain.core.money import Money
from domain.payments import inbox
from domain.payments.attempts import AttemptLive
from domain.payments.ports import ChargeState, Fact

PROVIDER = "manual"
# No account of a provider: its clearing account goes by the provider's name alone.
ACCOUNT = ""


class EvidenceUsed(DomainError):
    """This evidence has counted already: one payment is one order's, one transfer is one refund."""

    code = "EVIDENCE_USED"


# Never live: nobody is asked to take anything, so the attempt that is under way keeps its place.
_OPEN = """
INSERT INTO payment_attempt (id, intent_id, order_id, merchant_id, lane, seq, provider, provider_account, provider_ref,
    method, requested_minor, ccy, state)
SELECT $1, $2, $2, $3, $4, 1 + (SELECT count(*) FROM payment_attempt WHERE order_id = $2), $5, $6, $7, $5, $8, $9,
    'captured'
ON CONFLICT (provider, provider_account, provider_ref) DO NOTHING
"""


# Approved and not yet fulfilled: it does not count as kept before the next set, and it is paid all the same.
_WAITS = """
SELECT EXISTS (SELECT FROM payment_attempt a JOIN inbox_event i ON i.reference_id = a.id
    WHERE a.order_id = $1 AND a.provider = $2 AND i.lane = $3 AND i.verdict IS NULL)
"""


async def put_manual(
    attempt_id: UUID,
    *,
    order_id: UUID,
    merchant_id: UUID,
    lane: int,
    amount: Money,
    evidence: str,
) -> None:
    """Write that `amount` was paid for a locked order, as a word in the inbox. Inside the caller's transaction.

    `evidence` takes the place of the provider's reference, so that it pays once. Errors: AttemptLive while money
    that contradicts an attempt waits for a person, or another payment by hand for its set; EvidenceUsed.
    """
    assert db.in_transaction(), "the word commits with the approval"
    state = await db.value("SELECT state FROM payment_intent WHERE order_id = $1", order_id)
    if state == "conflicted" or await db.value(_WAITS, order_id, PROVIDER, lane):
        raise AttemptLive()
    reference = _reference(evidence)
    is_new = await db.execute(
        _OPEN,
        attempt_id,
        order_id,
        merchant_id,
        lane,
        PROVIDER,
        ACCOUNT,
        reference,
        amount.minor,
        amount.currency,
    )
    if not is_new:
        raise EvidenceUsed(path=("input", "evidence"))
    fact = Fact(
        event_id=f"manual:{attempt_id}",
        subject="attempt",
        reference=ids.encode(inbox.ATTEMPT_PREFIX, attempt_id),
        provider_ref=reference,
        state=ChargeState.CAPTURED,
        amount=amount,
        occurred_at=clock.now(),
    )
    await inbox.put(PROVIDER, ACCOUNT, [fact], body=fact.event_id.encode())


async def is_evidence_used(evidence: str) -> bool:
    """Whether it has paid for an order."""
    return bool(
        await db.value(
            "SELECT EXISTS (SELECT FROM payment_attempt WHERE provider = $1 AND provider_account = $2"
            " AND provider_ref = $3)",
            PROVIDER,
            ACCOUNT,
            _reference(evidence),
        )
    )


async def keep_refund_evidence(order_id: UUID, evidence: str) -> str:
    """Take the evidence of a refund that people sent, in its one spelling. Errors: EvidenceUsed."""
    assert db.in_transaction(), "the evidence commits with the refund"
    reference = _reference(evidence)
    is_new = await db.execute(
        "INSERT INTO refund_evidence (evidence, order_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        reference,
        order_id,
    )
    if not is_new:
        raise EvidenceUsed(path=("input", "evidence"))
    return reference


async def is_refund_evidence_used(evidence: str) -> bool:
    """Whether it has counted as a refund."""
    return bool(
        await db.value(
            "SELECT EXISTS (SELECT FROM refund_evidence WHERE evidence = $1)", _reference(evidence)
        )
    )


def _reference(evidence: str) -> str:
    """The same evidence in another spelling (case, width, spaces) is the same evidence."""
    return " ".join(unicodedata.normalize("NFKC", evidence).casefold().split())
