"""How a country and a currency are typed at `kami demo buy`: a slip is told before anything is asked."""

from __future__ import annotations

import typer


def country(typed: str | None) -> str | None:
    """Two letters (ISO 3166-1), any case. Errors: BadParameter."""
    if typed is not None and not (len(typed) == 2 and typed.isascii() and typed.isalpha()):
        raise typer.BadParameter(f"{typed!r} is no country: its two letters, e.g. HK or JP.")
    return typed


def currency(typed: str | None) -> str | None:
    """A code of three to five characters (ISO 4217, USDT), any case. Errors: BadParameter."""
    if typed is not None and not (3 <= len(typed) <= 5 and typed.isascii() and typed.isalnum()):
        raise typer.BadParameter(f"{typed!r} is no currency: its code, e.g. JPY or EUR.")
    return typed
