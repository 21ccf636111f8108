"""What becomes of a payment at the provider: states, steering amounts, timers, voids.

Every function is one step without an `await`, so two requests never see half of a change.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from server.sandbox import challenge, statements, wire
from server.sandbox.book import Book, Payment
from server.sandbox.callbacks import Courier
from server.sandbox.outcomes import Modes, Outcome, outcome
from server.sandbox.wire import Refusal

LATE_BY_S = 1.0
LIFE_MAX_S = 30 * 86400
OTHER_BY_MINOR = 100

OPEN = ("created", "processing")
TAKEN = ("captured", "partially_captured")


class Payments:
    """All payments; `now` gives Unix seconds, `autoconfirm_ms` 0 = wait for a click."""

    def __init__(
        self, book: Book, courier: Courier, now: Callable[[], float], autoconfirm_ms: int
    ) -> None:
        self._book, self._courier, self._now = book, courier, now
        self._autoconfirm_ms = autoconfirm_ms
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._modes: dict[str, Modes] = {}
        for payment_id, at in book.waiting():
            self._arm(payment_id, at)

    def close(self) -> None:
        """Stop the timers; the next start arms them again from the book."""
        for timer in self._timers.values():
            timer.cancel()

    def modes(self, account: str) -> Modes:
        """The account's variants."""
        return self._modes.get(account) or Modes()

    def set_modes(self, account: str, modes: Modes) -> None:
        """Choose the account's variants until the provider stops."""
        self._modes[account] = modes

    def create(self, account: str, asked: Mapping[str, Any]) -> tuple[Payment, bool]:
        """(payment, is new); same reference and input, same payment. Errors: Refusal."""
        reference = wire.text(asked, "reference", wire.NAME.fullmatch)
        input_hash = digest(asked)
        known = self._book.payment(account, reference)
        if known is not None:
            if known.input_hash not in ("", input_hash):  # "" = voided before it was ever seen
                raise Refusal(409, "reference_reused", "the reference was used with other input")
            return self._aged(known), False
        minor, currency = wire.minor_units(asked.get("amount"))
        if asked.get("method") != "sandbox":
            raise Refusal(422, "unsupported_method", "the only method is sandbox")
        now, expires_at = self._now(), wire.seconds(asked, "expires_at")
        if not now < expires_at <= now + LIFE_MAX_S:
            raise Refusal(422, "expired", "expires_at is past or more than 30 days ahead")
        token = wire.text(asked, "token", wire.NAME.fullmatch) if "token" in asked else ""
        if token and not self._book.has_method(account, token):
            raise Refusal(422, "unknown_token", "no such saved method")
        is_challenged = asked.get("must_authenticate") is True
        payment = Payment(
            account=account,
            reference=reference,
            payment_id=f"sbx_{secrets.token_hex(16)}",
            input_hash=input_hash,
            status="processing" if token and not is_challenged else "created",
            amount_minor=minor,
            currency=currency,
            order_number=wire.text(asked, "order_number", wire.is_words),
            return_url=wire.text(asked, "return_url", wire.is_url),
            notify_url=wire.text(asked, "notify_url", wire.is_url),
            locale=wire.text(asked, "locale", wire.is_words) if asked.get("locale") else "en",
            expires_at=expires_at,
            changed_at=now,
            saves=asked.get("save") is True and not token,
            token=token,
            must_authenticate=is_challenged,
            challenge_code=challenge.new_code() if is_challenged else "",
        )
        self._confirm_later(payment, now)
        self._book.save(payment)
        return payment, True

    def find(self, account: str, reference: str) -> Payment:
        """The payment of a reference. Errors: Refusal 404 `not_found`."""
        payment = self._book.payment(account, reference)
        if payment is None:
            raise Refusal(404, "not_found", "no such reference")
        return self._aged(payment)

    def page(self, payment_id: str) -> Payment | None:
        """The payment behind a hosted page."""
        payment = self._book.payment_by_id(payment_id)
        return None if payment is None else self._aged(payment)

    def authenticate(self, payment: Payment, code: str) -> bool:
        """The payer types a code: the right one pays, the third wrong one declines; whether it was right."""
        payment = self._aged(payment)
        if not challenge.waits(payment):
            return payment.authenticated
        if challenge.is_right(payment, code):
            self.confirm(payment)
            return True
        payment.wrong_codes += 1
        if payment.wrong_codes < challenge.TRIES_MAX:
            self._book.save(payment)
        else:
            self.decline(payment, *challenge.FAILED)
        return False

    def confirm(self, payment: Payment) -> None:
        """The buyer says pay, or has passed the challenge (or the timer does): the amount decides what comes of it."""
        payment = self._aged(payment)
        if payment.status not in OPEN:
            return
        payment.authenticated = payment.must_authenticate
        what = outcome(payment.amount_minor)
        if what is Outcome.DECLINE:
            self.decline(payment, "insufficient_funds", "The bank said no")
        elif what is Outcome.LATE and self._now() <= payment.expires_at:
            payment.status, payment.changed_at = "processing", self._now()
            payment.confirm_at = payment.expires_at + LATE_BY_S
            self._arm(payment.payment_id, payment.confirm_at)
            self._book.save(payment)
        else:
            self.capture(payment)

    def decline(self, payment: Payment, code: str, message: str) -> None:
        """Take nothing and say so; changes nothing once the payment is closed."""
        if payment.status not in OPEN:
            return
        payment.status, payment.code, payment.message = "declined", code, message
        payment.changed_at = self._now()
        self._announce(payment)

    def capture(
        self, payment: Payment, *, occurred_at: float | None = None, is_silent: bool = False
    ) -> None:
        """Take the money as the amount steers it, whatever was before. Errors: Refusal."""
        if payment.status in TAKEN:
            return
        if not payment.currency:
            raise Refusal(409, "never_created", "the reference was voided before it was used")
        what = outcome(payment.amount_minor)
        payment.status, payment.code, payment.message = "captured", "", ""
        payment.taken_minor, payment.taken_currency = payment.amount_minor, payment.currency
        if what is Outcome.PARTIAL:
            payment.status, payment.taken_minor = "partially_captured", payment.amount_minor // 2
        elif what is Outcome.OTHER and self.modes(payment.account).other == "currency":
            payment.taken_currency = "USD" if payment.currency == "EUR" else "EUR"
            shift = wire.digits(payment.currency) - wire.digits(payment.taken_currency)
            exact = payment.amount_minor * 100 // 10 ** (shift + 2)  # equal digits for people
            payment.taken_minor = max(1, exact)
        elif what is Outcome.OTHER:
            payment.taken_minor += OTHER_BY_MINOR
        payment.changed_at = self._now() if occurred_at is None else occurred_at
        if payment.saves:
            payment.saved_token = f"tok_{secrets.token_hex(16)}"
        self._announce(payment, is_twice=what is Outcome.TWICE, is_silent=is_silent)

    def late(self, payment: Payment) -> None:
        """Capture now, dated after the expiry; also what is expired, voided or declined."""
        at = max(self._now(), payment.expires_at + LATE_BY_S)
        self.capture(payment, occurred_at=at)

    def void(self, account: str, reference: str) -> Payment:
        """Close what is open; a reference never seen is closed before anyone can use it."""
        payment, now = self._book.payment(account, reference), self._now()
        if payment is None:
            payment = Payment(
                account=account,
                reference=reference,
                payment_id=f"sbx_{secrets.token_hex(16)}",
                input_hash="",
                status="voided",
                amount_minor=0,
                currency="",
                order_number="",
                return_url="",
                notify_url="",
                locale="en",
                expires_at=now,
                changed_at=now,
            )
            self._book.save(payment)
        elif self._aged(payment).status in OPEN:
            self._disarm(payment)
            payment.status, payment.changed_at = "voided", now
            self._book.save(payment)
        return payment

    def forget(self, account: str, token: str) -> None:
        """Charge by this token no more, however often it is asked. Errors: Refusal 404 `not_found`."""
        if not self._book.forget_method(account, token):
            raise Refusal(404, "not_found", "no such saved method")

    def repeat(self, payment: Payment) -> None:
        """Send the last statement again, byte for byte, under its own event id. Errors: Refusal."""
        if not payment.event_id:
            raise Refusal(409, "nothing_said", "there is no statement about this payment yet")
        again = statements.payment_callback(payment, payment.event_id)
        self._book.save(payment, owed=[again])
        self._courier.send(again)

    def _confirm_later(self, payment: Payment, now: float) -> None:
        chosen_ms = self.modes(payment.account).autoconfirm_ms
        delay_ms = self._autoconfirm_ms if chosen_ms is None else chosen_ms
        what = outcome(payment.amount_minor)
        if delay_ms <= 0 or what in (Outcome.HANG, Outcome.EARLY):
            return
        is_late = what is Outcome.LATE
        payment.confirm_at = payment.expires_at + LATE_BY_S if is_late else now + delay_ms / 1000
        self._arm(payment.payment_id, payment.confirm_at)

    def _aged(self, payment: Payment) -> Payment:
        """The payment, expired when its time is over; the late outcome outlives it."""
        is_over = payment.status == "created" and self._now() > payment.expires_at
        if is_over and outcome(payment.amount_minor) is not Outcome.LATE:
            self._disarm(payment)
            payment.status, payment.changed_at = "expired", self._now()
            self._book.save(payment)
        return payment

    def _announce(
        self, payment: Payment, *, is_twice: bool = False, is_silent: bool = False
    ) -> None:
        self._disarm(payment)
        payment.event_id = statements.event_id()
        owed = [] if is_silent else [statements.payment_callback(payment, payment.event_id)]
        if owed and is_twice and self.modes(payment.account).twice == "distinct":
            owed.append(statements.payment_callback(payment, statements.event_id()))
        elif owed and is_twice:
            owed[0].copies = 2
        self._book.save(payment, owed=owed)
        for callback in owed:
            self._courier.send(callback)

    def _arm(self, payment_id: str, at: float) -> None:
        old = self._timers.pop(payment_id, None)
        if old is not None:
            old.cancel()
        delay_s = max(0.0, at - self._now())
        self._timers[payment_id] = self._loop.call_later(delay_s, self._due, payment_id)

    def _disarm(self, payment: Payment) -> None:
        payment.confirm_at = None
        timer = self._timers.pop(payment.payment_id, None)
        if timer is not None:
            timer.cancel()

    def _due(self, payment_id: str) -> None:
        self._timers.pop(payment_id, None)
        payment = self._book.payment_by_id(payment_id)
        if payment is not None and payment.confirm_at is not None:
            self.confirm(payment)


def digest(asked: Mapping[str, Any]) -> str:
    """What makes two requests the same input."""
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
