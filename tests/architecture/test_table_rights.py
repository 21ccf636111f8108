"""The application's rights: each table has a decision, the database agrees with it, and no code needs more."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from domain.core import db as core
from domain.core import rights

ROOT = Path(__file__).parents[2]
# MONEY 1 and the records people rely on: written once.
FACTS = {
    "audit_log",
    "event_log",
    "fee_schedule",
    "fx_rate",
    "ledger_day",
    "ledger_journal",
    "ledger_seal",
    "ledger_transfer",
    "refund_evidence",
    "reserve_plan",
    "risk_ruleset",
    "split_rule",
}
_WRITE = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM)\s+(?:ONLY\s+)?([a-z_]+)")


async def test_h31_every_table_has_a_decision_and_the_database_agrees(db: None) -> None:
    """A new table fails here until `domain/core/rights.py` says what the application may do with it."""
    async with core.pool().acquire() as connection:
        there = await rights.tables(connection)
        has = await rights.found(connection)

    assert there == set(rights.TABLES)
    assert has == {name: set(decided) for name, decided in rights.TABLES.items()}


def test_h31_facts_are_added_and_read_only() -> None:
    assert {name for name in FACTS if set(rights.TABLES[name]) != {"SELECT", "INSERT"}} == set()
    assert rights.TABLES["inbox_event"] == ("SELECT", "INSERT", "UPDATE (note, verdict)")


def test_no_table_may_be_emptied_referenced_or_triggered() -> None:
    given = {right.partition(" ")[0] for decided in rights.TABLES.values() for right in decided}

    assert given == {"SELECT", "INSERT", "UPDATE", "DELETE"}


def test_no_code_writes_what_the_application_may_not() -> None:
    """Found before a test runs into it: the SQL in the source against the list."""
    beyond = set()
    for path in sorted(
        path for tree in ("domain", "workers", "server") for path in (ROOT / tree).rglob("*.py")
    ):
        if path.name == "migrate.py":
            continue  # runs as the owner
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            for verb, table in _WRITE.findall(node.value):
                decided = rights.TABLES.get(table, ())
                if table in rights.TABLES and not any(
                    right.startswith(verb.partition(" ")[0]) for right in decided
                ):
                    beyond.add(f"{path.relative_to(ROOT)}: {verb} {table}")

    assert beyond == set()
