"""What becomes of a refund at the provider: never more than was captured and not yet returned."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from server.sandbox import statements, wire
from server.sandbox.book import Book, Refund
from server.sandbox.callbacks import Courier
from server.sandbox.payments import TAKEN, digest
from server.sandbox.wire import Refusal


class Refunds:
    """All refunds of the provider; `now` gives Unix seconds."""

    def __init__(self, book: Book, courier: Courier, now: Callable[[], float]) -> None:
        self._book, self._courier, self._now = book, courier, now

    def create(self, account: str, asked: Mapping[str, Any], mode: str) -> tuple[Refund, bool]:
        """(refund, is new). The same reference and input give the same refund. Errors: Refusal.

        `mode` "pend" leaves it pending, "fail" lets it fail, anything else returns the money now.
        """
        reference = wire.text(asked, "reference", wire.NAME.fullmatch)
        payment_id = wire.text(asked, "payment_id", wire.NAME.fullmatch)
        input_hash = digest(asked)
        known = self._book.refund(account, reference)
        if known is not None:
            if known.input_hash != input_hash:
                raise Refusal(409, "reference_reused", "the reference was used with other input")
            return known, False
        minor, currency = wire.minor_units(asked.get("amount"))
        payment = self._book.payment_by_id(payment_id)
        if payment is None or payment.account != account:
            raise Refusal(404, "not_found", "no such payment")
        if payment.status not in TAKEN:
            raise Refusal(422, "not_captured", f"the payment is {payment.status}")
        if currency != payment.taken_currency:
            raise Refusal(422, "currency_differs", f"captured in {payment.taken_currency}")
        if minor > payment.taken_minor - payment.refunded_minor:
            raise Refusal(422, "amount_exceeds_captured", "more than is left of the capture")
        refund = Refund(
            account=account,
            reference=reference,
            refund_id=f"sbr_{secrets.token_hex(16)}",
            payment_id=payment_id,
            input_hash=input_hash,
            status="pending",
            amount_minor=minor,
            currency=currency,
            reason=str(asked.get("reason", ""))[:200],
            changed_at=self._now(),
        )
        payment.refunded_minor += minor
        self._book.save(payment, refund=refund)
        if mode != "pend":
            self.settle(refund, is_good=mode != "fail")
        return refund, True

    def find(self, account: str, reference: str) -> Refund:
        """The refund of a reference. Errors: Refusal 404 `not_found`."""
        refund = self._book.refund(account, reference)
        if refund is None:
            raise Refusal(404, "not_found", "no such reference")
        return refund

    def settle(self, refund: Refund, *, is_good: bool) -> None:
        """Let it succeed or fail and say so; a succeeded one may fail later. Errors: Refusal."""
        payment = self._book.payment_by_id(refund.payment_id)
        assert payment is not None, refund
        if refund.status == "failed":
            raise Refusal(409, "refund_failed", "a failed refund stays failed")
        if not is_good:
            payment.refunded_minor -= refund.amount_minor
        refund.status = "succeeded" if is_good else "failed"
        refund.code = "" if is_good else "account_closed"
        refund.changed_at, refund.event_id = self._now(), statements.event_id()
        owed = statements.refund_callback(refund, payment)
        self._book.save(payment, refund=refund, owed=[owed])
        self._courier.send(owed)
