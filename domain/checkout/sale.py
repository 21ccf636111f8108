"""One order inside a set: what is known of it, the money that arrived, and what it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.checkout import rules
from domain.core import ids
from domain.core.events import Event
from domain.core.money import Money
from domain.orders.models import Change, Held
from domain.orders.rules import EventKind, OrderStatus
from domain.payments.models import Attempt, Capture, Word
from domain.payments.rules import AttemptFacts, Verdict, judge

CONFLICTED = "conflicted"
# Written into an attempt that was given up for want of goods; money that comes after all is late money.
REFUSED = ("out_of_stock", "hold_limit")


@dataclass(slots=True)
class Sale:
    """A locked order with its words, captures and events; filled step by step by `fulfil`."""

    order: Held
    captures: list[Capture] = field(default_factory=list)  # money this set decides about
    freed: list[Capture] = field(
        default_factory=list
    )  # parked earlier, settles now if the order delivers
    conflicts: list[Capture] = field(default_factory=list)
    attempt_states: dict[UUID, tuple[str, int | None, str | None, str]] = field(
        default_factory=dict
    )
    taken: dict[tuple[UUID, str], int] = field(default_factory=dict)  # by attempt and currency
    verdicts: list[tuple[int, str, str | None]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    has_stock: bool = False
    outcome: rules.Outcome = rules.Outcome.NOTHING
    is_declined: bool = False
    was_refused: bool = False  # the buyer was told that the goods are gone
    is_proved: bool = False  # the payer has passed the challenge that risk had asked for
    is_unproved: bool = False  # risk had asked for it, and money came without one
    kept_before_minor: int = 0  # what is on its way back is not kept
    fresh_minor: int = 0
    surplus_minor: int = 0  # of the fresh money, above what was still to pay
    _arrival: rules.Arrival | None = None

    def happened(self, kind: EventKind, **facts: Any) -> None:
        """Add an event with the order's next sequence number."""
        self.order.event_seq += 1
        self.events.append(
            Event(self.order.id, self.order.merchant_id, self.order.event_seq, kind, facts)
        )

    def hear(self, word: Word, attempt: Attempt, capture_id: UUID) -> None:
        """Judge one word about one of this order's attempts; money in it becomes the capture `capture_id`."""
        if (word.provider, word.provider_account) != (attempt.provider, attempt.provider_account):
            self.verdicts.append((word.no, "refused", "other provider or account"))
            return
        if attempt.provider_ref and word.provider_ref and attempt.provider_ref != word.provider_ref:
            self.verdicts.append((word.no, "refused", "other provider reference"))
            return
        ccy = word.amount.currency
        known = attempt.processed_minor if attempt.processed_ccy == ccy else 0
        facts = AttemptFacts(
            attempt.requested,
            attempt.state,
            self.taken.get((attempt.id, ccy), known or 0),
            is_conflicted=attempt.processed_ccy not in (None, attempt.ccy),
        )
        judged = judge(facts, word.state, word.amount)
        if judged.verdict is Verdict.NOTHING:
            self.verdicts.append((word.no, "duplicate", None))
            return
        self.verdicts.append((word.no, "applied", None))
        attempt.state = judged.state
        attempt.provider_ref = attempt.provider_ref or word.provider_ref or None
        if judged.amount is not None:
            capture = _capture(word, attempt, judged.amount, capture_id)
            self._take(capture, word, attempt, is_conflict=judged.verdict is Verdict.CONFLICT)
        elif judged.verdict is Verdict.CLOSE:
            self.is_declined = True
            self.happened(_CLOSED[judged.state], payment_id=str(attempt.id), code=attempt.raw_code)
        self.attempt_states[attempt.id] = (
            attempt.state,
            attempt.processed_minor,
            attempt.processed_ccy,
            attempt.provider_ref or "",
        )

    def _take(self, capture: Capture, word: Word, attempt: Attempt, *, is_conflict: bool) -> None:
        self.taken[attempt.id, capture.ccy] = capture.taken_minor
        if attempt.processed_ccy in (None, capture.ccy):  # the first currency stays
            attempt.processed_minor, attempt.processed_ccy = capture.taken_minor, capture.ccy
        if is_conflict:
            self.conflicts.append(capture)
            self.happened(
                EventKind.MISMATCH,
                payment_id=str(attempt.id),
                asked_minor=attempt.requested_minor,
                asked_ccy=attempt.ccy,
                got_minor=word.amount.minor,
                got_ccy=word.amount.currency,
            )
            return
        self.captures.append(capture)
        self.fresh_minor += capture.amount_minor
        self.was_refused |= attempt.raw_code in REFUSED
        if attempt.must_authenticate:
            self._prove(word, attempt)

    def _prove(self, word: Word, attempt: Attempt) -> None:
        """Whether the challenge that risk asked for was passed: only the provider's proved word says so."""
        kind = EventKind.AUTHENTICATED if word.is_authenticated else EventKind.UNAUTHENTICATED
        self.is_proved |= word.is_authenticated
        self.is_unproved |= not word.is_authenticated
        self.happened(kind, payment_id=ids.encode("pay", attempt.id))

    @property
    def arrival(self) -> rules.Arrival:
        """The order and its money as the rule of the sale wants them; asked once all words are heard."""
        if self._arrival is None:
            self._arrival = self._weigh()
        return self._arrival

    def _weigh(self) -> rules.Arrival:
        order = self.order
        arrived = sum(capture.kept_minor for capture in self.captures if not _is_counted(capture))
        return rules.Arrival(
            status=order.status,
            total_minor=order.total_minor,
            kept_before_minor=self.kept_before_minor,
            arrived_minor=arrived,
            is_expired=order.status is OrderStatus.AWAITING_PAYMENT
            and (self.was_refused or self._came_after(order.expires_at)),
            is_held_by_risk=order.risk_hold or self.is_unproved,
            # The captures of such an order are sent round again only when everything is handed over.
            is_plain=order.is_plain or order.status is OrderStatus.DELIVERING,
        )

    def _came_after(self, moment: datetime) -> bool:
        return any(capture.captured_at > moment for capture in self.captures if capture.is_new)

    def change(self) -> Change:
        """The end state of the order row."""
        order = self.order
        return Change(
            order.id,
            rules.STATUS.get(self.outcome, order.status),
            order.captured_minor + self.fresh_minor,
            order.event_seq,
        )


def _capture(word: Word, attempt: Attempt, fresh: Money, capture_id: UUID) -> Capture:
    return Capture(
        id=capture_id,
        attempt_id=attempt.id,
        order_id=attempt.order_id,
        merchant_id=attempt.merchant_id,
        lane=attempt.lane,
        provider=attempt.provider,
        provider_account=attempt.provider_account,
        taken_minor=word.amount.minor,
        amount_minor=fresh.minor,
        returned_minor=0,
        ccy=fresh.currency,
        source_purpose="provider_clearing",
        state="captured",
        park_reason=None,
        journal_id=None,
        captured_at=word.occurred_at,
        is_new=True,
    )


def _is_counted(capture: Capture) -> bool:
    """Money that an earlier set has already added to the order's `captured_minor`."""
    return not capture.is_new


_CLOSED = {
    "declined": EventKind.DECLINED,
    "failed": EventKind.FAILED,
    "voided": EventKind.VOIDED,
}
