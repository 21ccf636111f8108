"""What the provider knows, in SQLite: payments, refunds, saved methods and the callbacks it still owes.

A write is on disk (WAL) before anyone hears of it, so a killed provider forgets nothing. Payments
are also kept in a bounded cache; never hold one across an `await`, ask for it again.
"""

from __future__ import annotations

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

CACHE_MAX = 20_000

_TABLES = """
CREATE TABLE IF NOT EXISTS payment (
    payment_id TEXT PRIMARY KEY, account TEXT NOT NULL, reference TEXT NOT NULL,
    confirm_at REAL, data BLOB NOT NULL, UNIQUE (account, reference)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS payment_waiting ON payment (confirm_at) WHERE confirm_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS refund (
    account TEXT NOT NULL, reference TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (account, reference)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS method (
    token TEXT PRIMARY KEY, account TEXT NOT NULL, is_forgotten INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS account (
    account TEXT PRIMARY KEY, secret BLOB NOT NULL, waiting BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS callback (
    event_id TEXT PRIMARY KEY, tries INTEGER NOT NULL, next_at REAL, data BLOB NOT NULL
) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Payment:
    """One payment: times are Unix seconds, `taken_…` was captured, `event_id` is the last word.

    `token` is the saved method it is charged by, `saved_token` the one it was saved as. `challenge_code` is what
    its payer has to type when the shop wants them authenticated.
    """

    account: str
    reference: str
    payment_id: str
    input_hash: str
    status: str
    amount_minor: int
    currency: str
    order_number: str
    return_url: str
    notify_url: str
    locale: str
    expires_at: float
    changed_at: float
    taken_minor: int = 0
    taken_currency: str = ""
    refunded_minor: int = 0
    confirm_at: float | None = None
    event_id: str = ""
    code: str = ""
    message: str = ""
    saves: bool = False
    token: str = ""
    saved_token: str = ""
    must_authenticate: bool = False
    authenticated: bool = False
    challenge_code: str = ""
    wrong_codes: int = 0


@dataclass(slots=True)
class Refund:
    """One refund of a payment."""

    account: str
    reference: str
    refund_id: str
    payment_id: str
    input_hash: str
    status: str
    amount_minor: int
    currency: str
    reason: str
    changed_at: float
    event_id: str = ""
    code: str = ""
    message: str = ""


@dataclass(slots=True)
class Callback:
    """One owed callback: `body` is the exact text that every try sends."""

    event_id: str
    account: str
    url: str
    body: str
    copies: int = 1
    tries: int = 0


class Book:
    """The records of one provider process. Errors: BookTaken when another process has the file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # return addresses open orders
        self._sql = sqlite3.connect(path, isolation_level=None, timeout=0.5)
        try:
            self._sql.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._sql.execute("PRAGMA journal_mode=WAL")
            self._sql.execute("PRAGMA synchronous=NORMAL")
            self._sql.executescript(_TABLES)
        except sqlite3.OperationalError as error:
            self._sql.close()
            raise BookTaken(f"{path} is in use by another sandbox: {error}") from error
        self._payments: OrderedDict[str, Payment] = OrderedDict()
        self._ids: dict[tuple[str, str], str] = {}
        self._delivered: list[tuple[str]] = []

    def close(self) -> None:
        """Write what is left and let the file go."""
        self.flush()
        self._sql.close()

    def payment(self, account: str, reference: str) -> Payment | None:
        """The payment of an account's reference."""
        known = self._ids.get((account, reference))
        if known is not None:
            return self.payment_by_id(known)
        row = self._sql.execute(
            "SELECT data FROM payment WHERE account = ? AND reference = ?", (account, reference)
        ).fetchone()
        return None if row is None else self._keep(Payment(**orjson.loads(row[0])))

    def payment_by_id(self, payment_id: str) -> Payment | None:
        """The payment behind a hosted page."""
        cached = self._payments.get(payment_id)
        if cached is not None:
            self._payments.move_to_end(payment_id)
            return cached
        row = self._sql.execute(
            "SELECT data FROM payment WHERE payment_id = ?", (payment_id,)
        ).fetchone()
        return None if row is None else self._keep(Payment(**orjson.loads(row[0])))

    def refund(self, account: str, reference: str) -> Refund | None:
        """The refund of an account's reference."""
        row = self._sql.execute(
            "SELECT data FROM refund WHERE account = ? AND reference = ?", (account, reference)
        ).fetchone()
        return None if row is None else Refund(**orjson.loads(row[0]))

    def accounts(self) -> list[tuple[str, bytes, bytes | None]]:
        """Every account that was opened: its secret, and the next one that it has not used yet."""
        return self._sql.execute("SELECT account, secret, waiting FROM account").fetchall()

    def has_account(self, account: str) -> bool:
        """Whether an account was opened."""
        return self.secret_of(account) is not None

    def secret_of(self, account: str) -> bytes | None:
        """The secret of an account that was opened."""
        row = self._sql.execute(
            "SELECT secret FROM account WHERE account = ?", (account,)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def keep_account(self, account: str, secret: bytes, waiting: bytes | None) -> None:
        """Write an account and its secrets."""
        self._sql.execute(
            "INSERT INTO account (account, secret, waiting) VALUES (?, ?, ?)"
            " ON CONFLICT (account) DO UPDATE SET secret = excluded.secret, waiting = excluded.waiting",
            (account, secret, waiting),
        )

    def has_method(self, account: str, token: str) -> bool:
        """Whether an account may charge by this token."""
        found = self._sql.execute(
            "SELECT 1 FROM method WHERE token = ? AND account = ? AND NOT is_forgotten",
            (token, account),
        )
        return found.fetchone() is not None

    def forget_method(self, account: str, token: str) -> bool:
        """Nobody charges by this token again; false when the account never had it."""
        return bool(
            self._sql.execute(
                "UPDATE method SET is_forgotten = 1 WHERE token = ? AND account = ?",
                (token, account),
            ).rowcount
        )

    def save(
        self,
        payment: Payment,
        *,
        refund: Refund | None = None,
        owed: Iterable[Callback] = (),
    ) -> None:
        """Write one change and the callbacks it owes, all or nothing."""
        self._sql.execute("BEGIN")
        try:
            self._forget_delivered()
            self._sql.execute(
                "INSERT INTO payment VALUES (?, ?, ?, ?, ?) ON CONFLICT (payment_id)"
                " DO UPDATE SET confirm_at = excluded.confirm_at, data = excluded.data",
                (
                    payment.payment_id,
                    payment.account,
                    payment.reference,
                    payment.confirm_at,
                    orjson.dumps(payment),
                ),
            )
            if payment.saved_token:
                self._sql.execute(
                    "INSERT OR IGNORE INTO method (token, account) VALUES (?, ?)",
                    (payment.saved_token, payment.account),
                )
            if refund is not None:
                self._sql.execute(
                    "INSERT OR REPLACE INTO refund VALUES (?, ?, ?)",
                    (refund.account, refund.reference, orjson.dumps(refund)),
                )
            for callback in owed:
                self._sql.execute(
                    "INSERT OR REPLACE INTO callback VALUES (?, 0, 0, ?)",
                    (callback.event_id, orjson.dumps(callback)),
                )
            self._sql.execute("COMMIT")
        except BaseException:
            self._sql.execute("ROLLBACK")
            self._payments.pop(payment.payment_id, None)  # what was not written is not known
            raise
        self._keep(payment)

    def delivered(self, event_id: str) -> None:
        """An acknowledged callback; written with the next change or `flush` (lost = sent again)."""
        self._delivered.append((event_id,))

    def postponed(self, callback: Callback, next_at: float | None) -> None:
        """A refused callback is due again at `next_at`; None = given up, the row stays."""
        self._sql.execute(
            "UPDATE callback SET tries = ?, next_at = ? WHERE event_id = ?",
            (callback.tries, next_at, callback.event_id),
        )

    def flush(self) -> None:
        """Write what `delivered` has collected."""
        if self._delivered:
            self._sql.execute("BEGIN")
            self._forget_delivered()
            self._sql.execute("COMMIT")

    def waiting(self) -> list[tuple[str, float]]:
        """(payment id, Unix seconds) of every payment that confirms by itself."""
        return self._sql.execute(
            "SELECT payment_id, confirm_at FROM payment WHERE confirm_at IS NOT NULL"
        ).fetchall()

    def owed(self) -> list[tuple[Callback, float]]:
        """Callbacks not acknowledged and not given up, with the time of their next try."""
        rows = self._sql.execute(
            "SELECT data, tries, next_at FROM callback WHERE next_at IS NOT NULL"
        ).fetchall()
        found = []
        for data, tries, next_at in rows:
            callback = Callback(**orjson.loads(data))
            callback.tries = tries
            found.append((callback, next_at))
        return found

    def _keep(self, payment: Payment) -> Payment:
        self._payments[payment.payment_id] = payment
        self._payments.move_to_end(payment.payment_id)
        self._ids[payment.account, payment.reference] = payment.payment_id
        if len(self._payments) > CACHE_MAX:
            _, oldest = self._payments.popitem(last=False)
            self._ids.pop((oldest.account, oldest.reference), None)
        return payment

    def _forget_delivered(self) -> None:
        if self._delivered:
            self._sql.executemany("DELETE FROM callback WHERE event_id = ?", self._delivered)
            self._delivered.clear()


class BookTaken(Exception):
    """Another process holds the provider's file."""
