"""Every row of the database as text, to say of a refused or repeated call that it left all of them as they were."""

from __future__ import annotations

from domain.core import db
from tests.database import owner

_TABLES = """
SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind = 'r'
    AND c.relnamespace = 'public'::regnamespace AND pg_relation_size(c.oid) > 0 AND c.relname <> ALL($1)
"""


async def everything(*, but: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """The rows of every table that has some, `but` those named."""
    found = {}
    async with owner():  # partitions too
        for table in await db.fetch(_TABLES, list(but)):
            rows = await db.fetch(f"SELECT t::text AS row FROM {table['name']} t ORDER BY 1")
            found[table["name"]] = [row["row"] for row in rows]
    return {name: rows for name, rows in sorted(found.items()) if rows}


def changed(before: dict[str, list[str]], after: dict[str, list[str]]) -> set[str]:
    """The tables that differ."""
    return {name for name in before | after if before.get(name) != after.get(name)}
