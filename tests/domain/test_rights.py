"""The application's role (case H31): what it may not do is refused by the server, what it must do works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from domain.core import db as core
from domain.core import migrate, rights
from tests import database
from tests.database import as_owner

ONE = {
    "event_log": "INSERT INTO event_log (order_id, merchant_id, sequence, kind, facts_json)"
    " VALUES (gen_random_uuid(), gen_random_uuid(), 1, 'order.placed', '{}')",
    "audit_log": "INSERT INTO audit_log (actor_kind, actor_id, action, subject_id, facts_json)"
    " VALUES ('operator', 'op', 'looked', gen_random_uuid(), '{}')",
    "fee_schedule": "INSERT INTO fee_schedule (id, scope, payer, version, pct_bps, valid_from_at)"
    " VALUES (gen_random_uuid(), 'platform', 'merchant', 1, 100, now())",
    "split_rule": "INSERT INTO split_rule (id, version, applies_to, allocation, legs_json, valid_from_at)"
    " VALUES (gen_random_uuid(), 1, 'payment', 'ratio', '[]', now())",
    "fx_rate": "INSERT INTO fx_rate (from_ccy, to_ccy, reference_rate, provider, taken_at, state)"
    " VALUES ('EUR', 'USD', 1.1, 'x', now(), 'live')",
    "refund_evidence": "INSERT INTO refund_evidence (evidence, order_id) VALUES ('line 1', gen_random_uuid())",
    "risk_ruleset": "INSERT INTO risk_ruleset (rules_json) VALUES ('[]')",
    "inbox_event": "INSERT INTO inbox_event (provider, provider_account, event_id, lane, body_hash, facts_json)"
    " VALUES ('sandbox', 'main', 'evt', 0, 'x', '{\"minor\": 100}')",
}
CHANGE = {
    "event_log": "kind = 'x'",
    "audit_log": "action = 'x'",
    "fee_schedule": "pct_bps = 1",
    "split_rule": "legs_json = '[1]'",
    "fx_rate": "reference_rate = 2",
    "refund_evidence": "evidence = 'x'",
    "risk_ruleset": "rules_json = '[1]'",
    "inbox_event": "facts_json = '{\"minor\": 1}'",
}


@pytest.mark.parametrize("table", list(ONE))
async def test_h31_a_fact_is_refused_to_the_application_and_stopped_for_the_owner(
    db: None, table: str
) -> None:
    await core.execute(ONE[table])
    before = await core.fetch(f"SELECT * FROM {table}")

    for sql in (f"UPDATE {table} SET {CHANGE[table]}", f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await core.execute(sql)
        with pytest.raises(asyncpg.RestrictViolationError):
            await as_owner(sql)

    assert before
    assert await core.fetch(f"SELECT * FROM {table}") == before


async def test_h31_the_verdict_on_an_event_may_be_written(db: None) -> None:
    await core.execute(ONE["inbox_event"])

    assert await core.execute("UPDATE inbox_event SET verdict = 'refused', note = 'odd'") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE mine (no INT)",
        "DROP TABLE orders",
        "ALTER TABLE ledger_journal DISABLE TRIGGER ALL",
        "ALTER TABLE orders ADD COLUMN free BOOLEAN",
        "DROP TRIGGER audit_log_append_only ON audit_log",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS TRIGGER LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "SET session_replication_role = replica",
        "INSERT INTO schema_migration (name, sha256) VALUES ('x', 'x')",
        "UPDATE order_line SET total_minor = 0",
        "UPDATE orders SET total_minor = 1",
        "UPDATE orders SET ccy = 'JPY'",
        "UPDATE orders SET merchant_id = gen_random_uuid()",
        "UPDATE payment_attempt SET requested_minor = 1",
        "UPDATE payment_attempt SET order_id = gen_random_uuid()",
        "UPDATE capture SET amount_minor = 1",
        "UPDATE capture SET merchant_id = gen_random_uuid()",
        "UPDATE refund SET amount_minor = 1",
        "UPDATE refund SET capture_id = gen_random_uuid()",
        "UPDATE ledger_balance SET floor_minor = NULL",
        "UPDATE capture_leg SET amount_minor = 1",
        "DELETE FROM orders",
        "DELETE FROM card_key",
        "DELETE FROM refund",
        "COPY orders TO PROGRAM 'cat'",
        "CREATE ROLE another",
    ],
)
async def test_h31_the_application_changes_neither_the_rules_nor_the_past(
    db: None, sql: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await core.execute(sql)


async def test_the_role_is_taken_on_with_the_connection_and_stays(db: None) -> None:
    async with core.statements() as sent:
        who = await core.row("SELECT current_user::text AS me, session_user::text AS login")
        async with core.transaction():
            within = await core.value("SELECT current_user::text")
        after = await core.value("SELECT current_user::text")

    assert who is not None
    assert (who["me"], within, after) == ("kami_app", "kami_app", "kami_app")
    assert who["login"] != "kami_app"
    assert [sql for sql in sent if "ROLE" in sql.upper()] == []


async def test_partitions_are_made_ahead_by_a_function_of_the_owner(db: None) -> None:
    made = await core.value("SELECT ensure_partitions('event_log', DATE '2032-01-15', 2)")
    again = await core.value("SELECT ensure_partitions('event_log', DATE '2032-01-15', 2)")

    assert (made, again) == (2, 0)
    for sql in ("DELETE FROM event_log_203201", "INSERT INTO event_log_203202 DEFAULT VALUES"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await core.execute(sql)
    for parent, months in (("orders", 1), ("pg_class", 1), ("event_log", 9_999)):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await core.execute("SELECT ensure_partitions($1, current_date, $2)", parent, months)
    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner("TRUNCATE event_log_203201")


@dataclass(frozen=True)
class Plain:
    """A new database of a user who may do nothing but own it."""

    name: str
    owner: str
    admin_dsn: str
    owner_dsn: str


@pytest.fixture
async def plain(servers: database.Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plain]:
    name = f"kami_plain_{uuid4().hex[:12]}"
    owner = f"{name}_owner"
    monkeypatch.setattr(rights, "ROLE", f"{name}_app")
    admin = await asyncpg.connect(servers.dsn("postgres"))
    await admin.execute(f"CREATE ROLE {owner} LOGIN")
    await admin.execute(f"CREATE DATABASE {name} OWNER {owner}")
    try:
        dsn = servers.dsn(name)
        yield Plain(name, owner, dsn, dsn.replace("//kami@", f"//{owner}@"))
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        for role in (f"{name}_web", f"{name}_app", owner):
            await admin.execute(f"DROP ROLE IF EXISTS {role}")
        await admin.close()


async def _me() -> tuple[str, str]:
    row = await core.row("SELECT current_user::text AS me, session_user::text AS login")
    assert row is not None
    return row["me"], row["login"]


async def test_a_user_that_may_not_make_roles_is_told_the_sql_and_kami_works_meanwhile(
    plain: Plain,
) -> None:
    first = await migrate.migrate(plain.owner_dsn)
    with capture_logs() as logs:
        await core.open(plain.owner_dsn, minsize=1, maxsize=1)
    alone = await _me()
    await core.close()

    admin = await asyncpg.connect(plain.admin_dsn)
    assert first.role_needs is not None
    await admin.execute(first.role_needs)
    await admin.close()
    second = await migrate.migrate(plain.owner_dsn)
    await core.open(plain.owner_dsn, minsize=1, maxsize=1)
    after = await _me()
    await core.close()

    assert first.role_needs == (
        f"CREATE ROLE {rights.ROLE} NOLOGIN;"
        f' GRANT {rights.ROLE} TO "{plain.owner}" WITH INHERIT FALSE, SET TRUE'
    )
    assert first.applied == [path.name for path in migrate.files()]
    assert alone == (plain.owner, plain.owner)
    assert [log["event"] for log in logs] == ["database.without_role"]
    assert (second.applied, second.role_needs) == ([], None)
    assert after == (rights.ROLE, plain.owner)


async def test_a_login_of_its_own_for_the_application_never_touches_the_owner(plain: Plain) -> None:
    admin = await asyncpg.connect(plain.admin_dsn)
    await admin.execute(f"CREATE ROLE {rights.ROLE} NOLOGIN")
    await admin.execute(f"CREATE ROLE {plain.name}_web LOGIN IN ROLE {rights.ROLE}")
    await admin.close()

    done = await migrate.migrate(plain.owner_dsn, as_owner=False)
    await core.open(plain.owner_dsn.replace("_owner@", "_web@"), minsize=1, maxsize=1)
    try:
        assert done.role_needs is None
        assert await _me() == (rights.ROLE, f"{plain.name}_web")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_owner("DELETE FROM ledger_journal")
    finally:
        await core.close()


async def test_migrating_takes_back_a_right_that_somebody_gave(plain: Plain) -> None:
    await migrate.migrate(plain.admin_dsn)
    admin = await asyncpg.connect(plain.admin_dsn)
    await admin.execute(f"GRANT DELETE ON ledger_journal TO {rights.ROLE}")
    await admin.execute("GRANT SELECT ON orders TO PUBLIC")
    await admin.execute(f"REVOKE INSERT ON orders FROM {rights.ROLE}")
    wrong = await rights.wrong(admin)

    await migrate.migrate(plain.admin_dsn)

    assert wrong == ["ledger_journal", "orders"]
    assert await rights.wrong(admin) == []
    await admin.close()
