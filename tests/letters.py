"""The mails that accounts are owed, and the tokens of their links."""

from __future__ import annotations

from dataclasses import dataclass

from domain.core import db, letters


@dataclass(frozen=True, slots=True)
class Owed:
    """One mail that waits: which letter, to whom, in which language, with which token."""

    letter: str
    recipient: str
    language: str
    token: str | None


async def owed() -> list[Owed]:
    """All that wait, oldest first."""
    rows = await db.fetch("SELECT * FROM notification WHERE audience = 'account' ORDER BY id")
    return [
        Owed(
            row["template"],
            row["recipient"],
            row["locale"],
            letters.secret_of(row["id"], row["secret"]) if row["secret"] else None,
        )
        for row in rows
    ]


async def last_token() -> str:
    """The token of the newest mail."""
    token = (await owed())[-1].token
    assert token is not None
    return token
