"""Migrations: numbered SQL files, each applied once, in order, in its own transaction, under one lock.

Afterwards the role of the application gets the rights that `domain/core/rights.py` lists.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from domain.core import rights

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6B616D69  # "kami": two processes that start together migrate one after the other
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    name VARCHAR(64) PRIMARY KEY, sha256 BYTEA NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp())
"""


class MigrationChanged(Exception):
    """An applied migration file was edited: write a new one instead."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """The names applied now ([] when all were); SQL for an administrator when the role cannot be made, else None."""

    applied: list[str]
    role_needs: str | None


def files() -> list[Path]:
    """All migration files in the order in which they are applied."""
    return sorted(FOLDER.glob("[0-9]*.sql"))


async def pending(connection: asyncpg.Connection[asyncpg.Record]) -> list[Path]:
    """The files not applied yet. Errors: MigrationChanged."""
    await connection.execute(_TABLE)
    rows = await connection.fetch("SELECT name, sha256 FROM schema_migration")
    applied = {row["name"]: row["sha256"] for row in rows}
    for path in files():
        if path.name in applied and applied[path.name] != _digest(path):
            raise MigrationChanged(path.name)
    return [path for path in files() if path.name not in applied]


async def migrate(dsn: str, *, as_owner: bool = True) -> Migrated:
    """Bring the database at `dsn` up to date, and the rights of the application's role with it.

    `as_owner`: the application signs in as the same user. Errors: MigrationChanged; the driver's when a statement
    fails (that file is rolled back whole).
    """
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        done = []
        for path in await pending(connection):
            async with connection.transaction():
                await connection.execute(path.read_text("utf-8"))
                await connection.execute(
                    "INSERT INTO schema_migration (name, sha256) VALUES ($1, $2)",
                    path.name,
                    _digest(path),
                )
            done.append(path.name)
        return Migrated(done, await rights.grant(connection, as_owner=as_owner))
    finally:
        await connection.close()


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
