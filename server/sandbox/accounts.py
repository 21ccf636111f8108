"""Accounts of the provider's other customers: opened by the platform's account, each with a secret of its own.

A new secret is taken beside the one in use until the account does something with it; then the old one is over. To ask
for the account itself only tries it.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping

from server.sandbox import wire
from server.sandbox.book import Book
from server.sandbox.wire import Caller, Keys, Refusal

PLATFORM = "main"
TRIED = "/v1/account"


class Accounts:
    """The accounts in the book and their keys."""

    def __init__(self, book: Book, keys: Keys) -> None:
        self._book, self._keys = book, keys
        self._next: dict[str, bytes] = {}
        for account, secret, waiting in book.accounts():
            keys.use(account, secret)
            if waiting:
                self._next[account] = waiting

    def prove(
        self, headers: Mapping[str, str], method: str, path: str, body: bytes, now: float
    ) -> Caller:
        """Who signed a request; a new secret that is used for the first time takes over. Errors: Refusal 401."""
        asked = (self._keys, headers, method, path, body, now)
        try:
            return wire.prove(*asked)
        except Refusal:
            waiting = self._next.get(headers.get("sandbox-account", ""))
            if waiting is None:
                raise
            caller = wire.prove(*asked, secret=waiting)
        if path == TRIED:
            return caller
        self._book.keep_account(caller.account, waiting, None)
        self._keys.use(caller.account, self._next.pop(caller.account))
        return caller

    def open(self, caller: Caller, account: str) -> str:
        """A new account; its secret, told this once. Errors: Refusal 403 for others than the platform, 409."""
        if caller.account != PLATFORM:
            raise Refusal(403, "forbidden", "only the platform opens accounts")
        if account == PLATFORM or self._book.has_account(account):
            raise Refusal(409, "account_exists", "there is such an account")
        secret = secrets.token_bytes(32)
        self._book.keep_account(account, secret, None)
        self._keys.use(account, secret)
        return _spelled(secret)

    def renew(self, caller: Caller) -> str:
        """The next secret of an account that was opened, told this once. Errors: Refusal 403."""
        held = self._book.secret_of(caller.account)
        if held is None:
            raise Refusal(403, "forbidden", "this account has no secret of its own")
        waiting = secrets.token_bytes(32)
        self._book.keep_account(caller.account, held, waiting)
        self._next[caller.account] = waiting
        return _spelled(waiting)


def _spelled(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
