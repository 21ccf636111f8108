"""The database: one pool, one way to open a transaction, SQL with asyncpg's own types.

Tortoise owns the pool, so models and plain SQL share one connection inside `transaction()`. Hot paths use
`fetch/row/value/execute`; both join the transaction of the running task. Why not `in_transaction()`: a
cancelled BEGIN leaks its pool slot for ever and waiting for a slot has no limit.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import orjson
import structlog
from tortoise import Tortoise
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.connection import get_connections

from domain.core import rights, trace
from domain.core.errors import Unavailable

ACQUIRE_TIMEOUT_S = 3.0
RETRY_MAX = 5
_NAME = "default"
_MODELS = ("domain.identity.models", "domain.merchants.models", "domain.catalogue.models")

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Record: TypeAlias = asyncpg.Record

RETRYABLE = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,
)
LOST = (asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError, ConnectionError, OSError)
# The server, not the statement, is the reason: stopping, starting, full, or gone.
AWAY = (
    *LOST,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)


class CommitUnknown(Unavailable):
    """COMMIT was sent and not answered: look the effect up by its key, never repeat it blindly."""

    code = "OUTCOME_UNKNOWN"


@dataclass(slots=True)
class _Open:
    """The transaction of one task; a task started inside must not use it (asyncpg allows one user)."""

    connection: Any
    task: asyncio.Task[Any] | None
    after_commit: list[Callable[[], Awaitable[None]]]


_open: ContextVar[_Open | None] = ContextVar("kami_transaction", default=None)
_pool: Any = None
_statements: ContextVar[list[str] | None] = ContextVar("kami_statements", default=None)


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """Goes back to the pool without a statement of its own.

    The stock reset costs a round trip per use and undoes what this house never does: session settings, session
    locks, open cursors, LISTEN. An open transaction is still rolled back.
    """

    def get_reset_query(self) -> str:
        return ""


# The server has no such role, or who signs in may not take it on.
_NO_ROLE = (asyncpg.InvalidParameterValueError, asyncpg.InsufficientPrivilegeError)


def credentials(dsn: str, *, minsize: int, maxsize: int, role: str | None = None) -> dict[str, Any]:
    """Tortoise credentials of a PostgreSQL URL; `?host=/dir` names a socket folder.

    `role` is taken on while connecting, which costs no round trip.
    """
    parts = urlsplit(dsn)
    host = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0]
    return {
        "host": host,
        "port": parts.port or 5432,
        "user": unquote(parts.username or "postgres"),
        "password": unquote(parts.password) if parts.password else None,
        "database": parts.path.lstrip("/") or "postgres",
        "minsize": minsize,
        "maxsize": maxsize,
        "timeout": ACQUIRE_TIMEOUT_S,
        "command_timeout": 30,
        "connection_class": _Connection,
        "init": _set_codecs,
        "server_settings": {
            "application_name": "kami",
            "statement_timeout": "30000",
            "lock_timeout": "5000",
            "idle_in_transaction_session_timeout": "10000",
            "timezone": "UTC",
            "plan_cache_mode": "force_generic_plan",
            **({"role": role} if role else {}),
        },
    }


async def _set_codecs(connection: asyncpg.Connection[Any]) -> None:
    # Binary, because COPY takes nothing else; the wire format of jsonb begins with its version.
    for name, version in (("json", b""), ("jsonb", b"\x01")):
        await connection.set_type_codec(
            name,
            schema="pg_catalog",
            format="binary",
            encoder=partial(_json_bytes, version),
            decoder=partial(_json_value, len(version)),
        )


def _json_bytes(version: bytes, value: Any) -> bytes:
    # Text passes through: Tortoise's JSONField has encoded it already.
    return version + (value.encode() if isinstance(value, str) else orjson.dumps(value))


def _json_value(skip: int, data: bytes) -> Any:
    return orjson.loads(data[skip:])


async def open(dsn: str, *, minsize: int = 2, maxsize: int = 10) -> None:
    """Open the pool of this process, with the rights of the application and no more.

    On a server that has no such role it works with those of the user who signs in, and says so (`kami doctor` tells
    how to mend it). Errors: the driver's, when the server cannot be reached.
    """
    try:
        await _open_as(rights.ROLE, dsn, minsize=minsize, maxsize=maxsize)
    except _NO_ROLE as error:
        await Tortoise.close_connections()
        await _open_as(None, dsn, minsize=minsize, maxsize=maxsize)
        _log.warning("database.without_role", role=rights.ROLE, error=str(error))


async def _open_as(role: str | None, dsn: str, *, minsize: int, maxsize: int) -> None:
    await Tortoise.init(
        config={
            "connections": {
                _NAME: {
                    "engine": "tortoise.backends.asyncpg",
                    "credentials": credentials(dsn, minsize=minsize, maxsize=maxsize, role=role),
                }
            },
            "apps": {"kami": {"models": list(_MODELS), "default_connection": _NAME}},
            "use_tz": True,
            "timezone": "UTC",
        },
        _enable_global_fallback=True,
    )
    global _pool
    client = _client()
    if client._pool is None:
        await client.create_connection(with_db=True)
    _pool = client._pool


async def close() -> None:
    """Close the pool; open transactions are given ten seconds."""
    global _pool
    _pool = None
    await Tortoise.close_connections()


def _client() -> AsyncpgDBClient:
    return cast(AsyncpgDBClient, get_connections().get(_NAME))


def pool() -> Any:
    """The asyncpg pool of this process."""
    assert _pool is not None, "db.open() has not run"
    return _pool


async def _acquire() -> Any:
    found = pool()
    # A free connection is there at once: the timer of a wait that does not happen costs more than taking it.
    timeout_s = None if found.get_idle_size() else ACQUIRE_TIMEOUT_S
    try:
        return await found.acquire(timeout=timeout_s)
    except (TimeoutError, *AWAY) as error:
        raise Unavailable(what="database") from error


def in_transaction() -> bool:
    """Whether the running task has a transaction open."""
    return _open.get() is not None


@asynccontextmanager
async def transaction() -> AsyncIterator[None]:
    """One transaction (READ COMMITTED); nested calls join the outer one.

    Commits at the end, rolls back on any error. Errors: Unavailable when no connection comes within three
    seconds, CommitUnknown when COMMIT was not answered.
    """
    current = _open.get()
    if current is not None:
        assert current.task is asyncio.current_task(), "a task started inside a transaction uses it"
        yield
        return
    with trace.span("transaction", "transaction"):
        connection = await _acquire()
        opened = _Open(connection, asyncio.current_task(), [])
        try:
            await _run(opened, connection)
            wrapper = TransactionWrapper(_client())
            wrapper._connection = connection
            token = get_connections().set(_NAME, wrapper)
            mark = _open.set(opened)
            try:
                yield
            except BaseException:
                await _rollback(connection)
                raise
            finally:
                _open.reset(mark)
                get_connections().reset(token)
            await _commit(connection)
        finally:
            await _release(connection)
    for follow in opened.after_commit:
        await follow()


def _drop(connection: Any) -> None:
    """Cut it; one that the pool has already thrown away says so, and that is no error of ours."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _run(opened: _Open, connection: Any) -> None:
    _count("BEGIN")
    try:
        await connection.execute("BEGIN")
    except AWAY as error:
        _drop(connection)
        raise Unavailable(what="database") from error
    except BaseException:
        _drop(connection)
        raise


async def _rollback(connection: Any) -> None:
    try:
        await connection.execute("ROLLBACK")
    except BaseException:
        # The server drops the transaction with the connection; the first error is the one to report.
        _drop(connection)


async def _commit(connection: Any) -> None:
    _count("COMMIT")
    try:
        done = await connection.execute("COMMIT")
    except AWAY as error:
        _drop(connection)
        raise CommitUnknown() from error
    except BaseException:
        _drop(connection)
        raise
    # The server answers ROLLBACK, and no error, when a failed statement was caught inside: nothing was kept.
    assert done == "COMMIT", done


async def _release(connection: Any) -> None:
    try:
        await pool().release(connection)
    except LOST:
        _drop(connection)


def after_commit(follow: Callable[[], Awaitable[None]]) -> None:
    """Run `follow` once the outermost transaction has committed; never when it rolls back."""
    current = _open.get()
    assert current is not None, "after_commit outside a transaction"
    current.after_commit.append(follow)


def _count(sql: str) -> None:
    seen = _statements.get()
    if seen is not None:
        seen.append(sql)


@asynccontextmanager
async def statements() -> AsyncIterator[list[str]]:
    """Collect the SQL this task sends; for tests that bound the statements of an operation."""
    seen: list[str] = []
    token = _statements.set(seen)
    try:
        yield seen
    finally:
        _statements.reset(token)


def _connection() -> Any | None:
    current = _open.get()
    if current is None:
        return None
    assert current.task is asyncio.current_task(), "a task started inside a transaction uses it"
    return current.connection


async def _call(name: str, sql: str, args: Sequence[Any], **named: Any) -> Any:
    _count(sql)
    connection = _connection()
    if connection is not None:
        return await _send(connection, name, sql, args, named)
    connection = await _acquire()
    try:
        return await _send(connection, name, sql, args, named)
    finally:
        await _release(connection)


async def _send(
    connection: Any, name: str, sql: str, args: Sequence[Any], named: dict[str, Any]
) -> Any:
    """Errors: the server's about the statement; Unavailable when it is not the statement's fault."""
    try:
        return await getattr(connection, name)(sql, *args, **named)
    except AWAY as error:
        raise Unavailable(what="database") from error


async def fetch(sql: str, *args: Any) -> list[Record]:
    """All rows of `sql` with `$1 …` arguments."""
    return cast(list[Record], await _call("fetch", sql, args))


async def row(sql: str, *args: Any) -> Record | None:
    """The first row, or None."""
    return cast("Record | None", await _call("fetchrow", sql, args))


async def value(sql: str, *args: Any) -> Any:
    """The first column of the first row, or None."""
    return await _call("fetchval", sql, args)


async def execute(sql: str, *args: Any) -> int:
    """Run `sql` and give the number of rows it touched."""
    tag = cast(str, await _call("execute", sql, args))
    count = tag.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


async def insert(table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Append `rows`, each in the order of `columns`, and give their number.

    COPY: for the client a quarter of what arrays and `unnest` cost. Errors: as an INSERT without ON CONFLICT.
    """
    if not rows:
        return 0
    tag = await _call("copy_records_to_table", table, (), columns=columns, records=rows)
    return int(tag.rpartition(" ")[2])


async def retried(action: Callable[[], Awaitable[T]]) -> T:
    """Run `action` again after a deadlock, serialization failure or lock wait: at most five times.

    `action` opens its own transaction, so each try starts from nothing. Errors: Unavailable at the end.
    """
    assert not in_transaction(), "retry the whole transaction, not a part of it"
    for tries in range(1, RETRY_MAX + 1):
        try:
            return await action()
        except RETRYABLE as error:
            if tries == RETRY_MAX:
                raise Unavailable(what="database") from error
            await asyncio.sleep(random.uniform(0.002, 0.02) * 2**tries)
    raise AssertionError("unreachable")
