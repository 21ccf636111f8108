"""What the application may do with which table; the owner of the tables gives it when migrating.

The application works as `ROLE`, which owns nothing: facts it may only add, of others it may change the columns
that change. Migrations create tables, this list decides about each of them; docs/decisions/0009 says why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg

# One name for the whole server: rights are kept per database, and a copy of a database keeps them.
ROLE = "kami_app"

_READ = ("SELECT",)
_ADD = ("SELECT", "INSERT")  # facts: written once
_MOVE = ("SELECT", "INSERT", "UPDATE")  # states: change, never disappear
_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")  # what may be forgotten


def _only(*columns: str) -> tuple[str, ...]:
    """Facts with a few columns that move."""
    return (*_ADD, f"UPDATE ({', '.join(sorted(columns))})")


TABLES: Mapping[str, tuple[str, ...]] = {
    "schema_migration": _READ,
    # What happened.
    "event_log": _ADD,
    "audit_log": _ADD,
    "audit_seal": _ADD,
    "event_reader": _MOVE,
    # Work owed.
    "promise": _ALL,
    "idempotency": _ALL,
    "saga": _MOVE,
    "saga_step": _ADD,
    "timetable": _MOVE,
    "timetable_day": _MOVE,
    # People and merchants.
    "account": _MOVE,
    "operator_role": _ADD,
    "session": _ALL,
    "sign_in_try": _ALL,
    "mfa": _ALL,
    "recovery_code": _ALL,
    "passkey": _ALL,
    "passkey_challenge": _ALL,
    "half_sign_in": _ALL,
    "account_link": _ALL,
    "known_device": _ALL,
    "address_left": _only("undone_at"),
    "merchant": _MOVE,
    "shop": _MOVE,
    "membership": _ALL,
    "fee_schedule": _ADD,
    "split_rule": _ADD,
    "reserve_plan": _ADD,
    "settlement_plan": _MOVE,
    # Partner apps.
    "partner_app": _MOVE,
    "app_grant": _only("revoked_at", "revoked_for"),
    "app_limit": _only("used_minor"),
    "app_request": _ALL,
    "app_code": _ALL,
    "app_device": _ALL,
    "app_family": _only("revoked_at", "revoked_for"),
    "app_refresh": _ALL,
    "app_token": _ALL,
    "app_proof": _ALL,
    "app_sale": _ADD,
    "app_document": ("SELECT", "INSERT", "DELETE"),
    # Exchange.
    "fx_rate": _ADD,
    "fx_quote": _only("state", "consumed_by"),
    # The books.
    "ledger_account": _only("closed_at"),
    "ledger_journal": _ADD,
    "ledger_transfer": _ADD,
    "ledger_entry": _READ,
    "ledger_balance": _only(
        "debits_pending", "debits_posted", "credits_pending", "credits_posted", "version"
    ),
    "ledger_hold": _only("state", "resolved_by"),
    "ledger_day": _ADD,
    "ledger_seal": _ADD,
    # Catalogue and stock.
    "merchant_data_key": _only("wrapped", "kek_version"),
    "product": _MOVE,
    "product_text": _ALL,
    "variant": _MOVE,
    "variant_text": _ALL,
    "price": _ALL,
    "price_tier": _ALL,
    "coupon": _MOVE,
    "coupon_amount": _ALL,
    "coupon_use": _MOVE,
    "stock_lot": _ADD,
    "card_key": _MOVE,
    "variant_stock": _ALL,
    "reusable_key": _MOVE,
    "reusable_use": _ALL,
    "stock_hold": _ALL,
    "reveal": _ADD,
    "supply": _MOVE,
    "import_job": _MOVE,
    "upload": _ALL,
    # The sale.
    "orders": _only(
        "status",
        "captured_minor",
        "returned_minor",
        "disputes_open",
        "risk_hold",
        "version",
        "event_seq",
        "expires_at",
        "paid_at",
        "delivered_at",
    ),
    "order_line": _only("done"),
    "payment_intent": _only("state"),
    "payment_attempt": _only(
        "state",
        "provider_ref",
        "action_json",
        "raw_code",
        "raw_message",
        "processed_minor",
        "processed_ccy",
        "checks",
        "next_check_at",
    ),
    "capture": _only(
        "state", "park_reason", "source_purpose", "journal_id", "returned_minor", "error"
    ),
    "capture_leg": _only("returned_minor", "locked_minor"),
    "inbox_event": _only("verdict", "note"),
    "refund_evidence": _ADD,
    "refund": _only("state", "provider_ref", "raw_code", "done_at"),
    "saved_method": _only("last_used_at", "revoked_at", "token_cipher"),
    "attempt_method": _ADD,
    "order_root": _ADD,
    "settlement_item": _only("amount_minor", "released_run_id"),
    "reserve_hold": _only("drawn_minor", "state"),
    "money_exception": _only("state", "note", "closed_at", "closed_by"),
    "notification": _ALL,
    "webhook_endpoint": _ALL,
    "webhook_delivery": _ALL,
    "webhook_attempt": ("SELECT", "INSERT", "DELETE"),
    "approval": _only(
        "state", "approved_by", "approved_at", "usable_at", "ended_by", "ended_at", "note"
    ),
    "provider_credential": _only("state", "version", "approved_by", "active_at", "ended_at"),
    "payout_method": _only("state", "version", "approved_by", "usable_at", "removed_at"),
    "security_alert": _only("acknowledged_at", "acknowledged_by", "note"),
    "read_count": _ALL,
    "honey_key": _ADD,
    "bulk_job": _ALL,
    "bulk_piece": _ALL,
    "bulk_input": _ALL,
    "good_report": _only("state", "note", "decided_by", "decided_at"),
    # Risk.
    "risk_rule": _MOVE,  # its trigger fixes the terms; LOCK TABLE wants the whole right
    "risk_ruleset": _ADD,
    "risk_entry": _only("lifted_at", "lifted_by"),
    "risk_counter": _ALL,
    "risk_decision": _only("resolved_outcome", "resolved_by", "resolved_reason", "resolved_at"),
}
# Functions that do more than their caller may; nobody else may call them.
FUNCTIONS = ("ensure_partitions(text, date, integer)",)

_FOUND = """
SELECT c.relname, a.privilege_type AS right, NULL AS column FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
    AND a.grantee IN (0, (SELECT oid FROM pg_roles WHERE rolname = $1))
UNION ALL
SELECT c.relname, a.privilege_type, t.attname FROM pg_class c
JOIN pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped, aclexplode(t.attacl) a
WHERE c.relnamespace = 'public'::regnamespace
    AND a.grantee IN (0, (SELECT oid FROM pg_roles WHERE rolname = $1))
"""
_TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
    AND NOT relispartition
"""
_MAY = """
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS is_there,
    EXISTS (SELECT FROM pg_roles WHERE rolname = $1 AND (rolsuper OR rolbypassrls OR rolcreaterole)) AS is_mighty,
    coalesce((SELECT pg_has_role(current_user, oid, 'SET') FROM pg_roles WHERE rolname = $1), false) AS is_ours,
    current_user::text AS me, current_database()::text AS database
"""


async def found(connection: Any) -> dict[str, set[str]]:
    """The rights the role (or everybody) has: table → `SELECT`, `UPDATE (columns)` …; also of partitions."""
    rights: dict[str, set[str]] = defaultdict(set)
    columns: dict[tuple[str, str], set[str]] = defaultdict(set)
    for table, right, column in await connection.fetch(_FOUND, ROLE):
        if column is None:
            rights[table].add(right)
        else:
            columns[table, right].add(column)
    for (table, right), names in columns.items():
        rights[table].add(f"{right} ({', '.join(sorted(names))})")
    return dict(rights)


async def tables(connection: Any) -> set[str]:
    """Every table and view, without partitions."""
    return {row["relname"] for row in await connection.fetch(_TABLES)}


async def wrong(connection: Any) -> list[str]:
    """The tables whose rights differ from the list above."""
    has, there = await found(connection), await tables(connection)
    return sorted(
        name
        for name in there | has.keys()
        if has.get(name, set()) != set(TABLES.get(name, ()) if name in there else ())
    )


async def problem(connection: Any, *, as_owner: bool) -> str | None:
    """Why the application cannot work as `ROLE` here, as SQL that mends it; None when it can.

    `as_owner` says that the application signs in as the user that migrates, who then must be a member.
    """
    may = await connection.fetchrow(_MAY, ROLE)
    needed = [] if may["is_there"] else [f"CREATE ROLE {ROLE} NOLOGIN"]
    if may["is_mighty"]:
        needed.append(f"ALTER ROLE {ROLE} NOSUPERUSER NOCREATEROLE NOBYPASSRLS")
    if as_owner and not may["is_ours"]:
        needed.append(f'GRANT {ROLE} TO "{may["me"]}" WITH INHERIT FALSE, SET TRUE')
    return "; ".join(needed) or None


async def grant(connection: Any, *, as_owner: bool) -> str | None:
    """Make the role and give it exactly its rights; idempotent. The SQL for an administrator when we may not."""
    needed = await problem(connection, as_owner=as_owner)
    if needed is not None:
        try:
            async with connection.transaction():
                await connection.execute(needed)
        except asyncpg.InsufficientPrivilegeError:
            return needed
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            pass  # a migration of another database of this server was faster
    await _agree(connection)
    return None


async def _agree(connection: Any) -> None:
    there = await tables(connection)
    async with connection.transaction():
        await connection.execute(f"GRANT USAGE ON SCHEMA public TO {ROLE}")
        for name in await wrong(connection):
            await connection.execute(f'REVOKE ALL ON "{name}" FROM {ROLE}, PUBLIC')
            if name in there and name in TABLES:
                await connection.execute(_sentence(name, TABLES[name]))
        for function in FUNCTIONS:
            await connection.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
            await connection.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {ROLE}")


def _sentence(table: str, rights: Iterable[str]) -> str:
    return f'GRANT {", ".join(rights)} ON "{table}" TO {ROLE}'
