"""A mail to the holder of an address, owed with the change that it tells of.

    async with db.transaction():
        ...                                          # the change
        await letters.owe("reset", address, "ja", {}, secret=token)

Whoever writes the change needs not know how mails are written or carried: `notifications` sends what is owed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from domain.core import db, ids, vault

_INSERT = """
INSERT INTO notification (id, sequence, template, audience, recipient, locale, facts_json, secret)
VALUES ($1, 0, $2, 'account', $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING
"""


async def owe(
    letter: str,
    recipient: str,
    locale: str,
    facts: Mapping[str, Any] | None = None,
    *,
    secret: str | None = None,
    letter_id: UUID | None = None,
) -> UUID:
    """Owe one mail; its id. `recipient` is normalised, `facts` are plain JSON.

    With a `letter_id` that its cause always makes the same it is owed once, however often it is asked for.

    `secret` is the token of its link: sealed while it waits, forgotten when it is sent.
    """
    assert db.in_transaction(), "a mail commits with the change it tells of"
    letter_id = letter_id or ids.uuid7()
    sealed = None if secret is None else vault.seal(_place(letter_id), secret.encode())
    await db.execute(_INSERT, letter_id, letter, recipient, locale, dict(facts or {}), sealed)
    return letter_id


def secret_of(letter_id: UUID, sealed: bytes) -> str:
    """The token of a letter's link. Errors: those of `vault.unseal`."""
    return vault.unseal(_place(letter_id), sealed).decode()


def _place(letter_id: UUID) -> str:
    return f"notification:{letter_id}"
