"""`kami doctor`: what is configured, what can be reached, what is wrong, each with its remedy in words."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import maxminddb
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError
from rich.console import Console
from rich.table import Column, Table

from domain.core import heartbeat, migrate, rights
from domain.core.heartbeat import QUEUES
from domain.core.settings import (
    API_CONNECTIONS,
    SECRETS_FILE,
    WORKER_CONNECTIONS,
    Settings,
    SettingsWrong,
    load,
    reachable,
)
from server import listen, running

CONNECT_TIMEOUT_S = 5
SPARE_CONNECTIONS = 10  # for people and for the server itself
WIDTH = 140  # of a report that is not read on a terminal
POSTGRES_MIN = 160000
CLOCK_SKEW_S = 5.0
REDIS_MIN, VALKEY_MIN = 7, 8
_OURS = {"PROCESS", "READY_FD", "GATE_FD", "LIFELINE", "NURSERY_FD"}


class Verdict(StrEnum):
    """How a thing is; only WRONG makes the exit code 1."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    verdict: Verdict
    fact: str
    remedy: str = ""


async def report(console: Console | None = None, *, adopted: frozenset[str] = frozenset()) -> int:
    """Print everything; 1 when something is wrong, else 0. `adopted` settings come from the running `kami up`."""
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    try:
        settings = load()
    except SettingsWrong as error:
        findings = [Finding("settings", Verdict.WRONG, text) for text in error.problems]
    else:
        console.print(_configured(settings, adopted))
        findings = [one async for one in examine(settings)]
    columns = ("what", "", _folded("fact"), _folded("remedy"))
    table = Table(*columns, title="Checks", title_justify="left")
    colours = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.WRONG: "red"}
    for one in findings:
        colour = colours[one.verdict]
        table.add_row(one.what, f"[{colour}]{one.verdict}[/]", _plain(one.fact), _plain(one.remedy))
    console.print(table)
    wrong = sum(one.verdict is Verdict.WRONG for one in findings)
    console.print("Everything is in order." if not wrong else f"[red]{wrong} wrong.[/]")
    return 1 if wrong else 0


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """All checks, one after the other; none of them writes anything."""
    yield _python()
    for finding in [*_unknown_names(), *_files(settings), *_mail(settings)]:
        yield finding
    facts = running.found(settings.data_dir)
    async for finding in _processes(settings, facts):
        yield finding
    async for finding in _database(settings):
        yield finding
    async for finding in _redis(settings):
        yield finding


def _configured(settings: Settings, adopted: frozenset[str]) -> Table:
    table = Table("setting", _folded("value"), "from", title="Configured", title_justify="left")
    for name in type(settings).model_fields:
        variable = f"KAMI_{name.upper()}"
        source = "environment" if os.environ.get(variable) else "default"
        if name in adopted:
            source = "kami up"
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            is_set = bool(value.get_secret_value())
            source = source if source == "environment" else SECRETS_FILE if is_set else "default"
            shown = "•••••• (set)" if is_set else "not set"
        elif value is None:
            shown = "embedded" if name in ("database_url", "redis_url") else "not set"
        else:
            shown = (
                masked(str(value)) if not isinstance(value, list) else ", ".join(value) or "none"
            )
        table.add_row(variable, _plain(shown), source)
    return table


def _folded(title: str) -> Column:
    return Column(title, overflow="fold")  # an address that is cut off helps nobody


def masked(text: str) -> str:
    """A URL without its password; other texts as they are."""
    return re.sub(r"(?<=://)([^/\s:@]*):[^/\s@]+@", r"\1:••••••@", text)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _python() -> Finding:
    return Finding("python", Verdict.OK, f"{sys.version.split()[0]} on {sys.platform}")


def _unknown_names() -> Iterator[Finding]:
    known = {name.upper() for name in Settings.model_fields} | _OURS
    for variable in sorted(os.environ):
        if variable.startswith("KAMI_") and variable.removeprefix("KAMI_") not in known:
            remedy = "No such setting: a typing error? See the names above."
            yield Finding(variable, Verdict.WRONG, "is set and means nothing", remedy)


def _files(settings: Settings) -> Iterator[Finding]:
    path = settings.data_dir / SECRETS_FILE
    if path.exists():
        mode = stat.S_IMODE(path.stat().st_mode)
        is_closed = not mode & 0o077
        yield Finding(
            "secrets file",
            Verdict.OK if is_closed else Verdict.WRONG,
            f"{path} has mode {mode:04o}",
            "" if is_closed else f"Others can read it: chmod 600 {path}",
        )
    if settings.geoip_db is not None:
        yield _geoip(settings.geoip_db)


def _geoip(path: Path) -> Finding:
    otherwise = "unset it to use the one that ships with Kami."
    try:
        maxminddb.open_database(path, maxminddb.MODE_FILE).close()
    except OSError as error:
        remedy = f"KAMI_GEOIP_DB names no file that can be read: mend the path or its rights, or {otherwise}"
        return Finding(
            "GeoIP database", Verdict.WRONG, f"{path}: {error.strerror or error}", remedy
        )
    except maxminddb.InvalidDatabaseError:
        remedy = f"Take a country file in MaxMind DB format (.mmdb), unpacked, or {otherwise}"
        return Finding("GeoIP database", Verdict.WRONG, f"{path} is no MaxMind DB file", remedy)
    return Finding("GeoIP database", Verdict.OK, str(path))


def _mail(settings: Settings) -> Iterator[Finding]:
    if settings.smtp_url is None and not settings.in_development:
        remedy = "Buyers get no mail: set KAMI_SMTP_URL=smtp://user:password@host:587"
        yield Finding("mail", Verdict.WRONG, "no SMTP server", remedy)


async def _processes(settings: Settings, facts: dict[str, Any] | None) -> AsyncIterator[Finding]:
    if facts is None:
        yield Finding("kami up", Verdict.NOTE, "does not run here", "Start it: make run")
        yield _port(settings.host, settings.port)
        return
    names = ", ".join(f"{name} {pid}" for name, pid in facts["processes"].items())
    yield Finding(
        "kami up", Verdict.OK, f"process {facts['pid']} at {facts['public_url']}: {names}"
    )
    for name, count in facts.get("restarts", {}).items():
        remedy = f"Look for '{name}' in the log of `kami up`."
        yield Finding(name, Verdict.NOTE, f"was restarted {count}×", remedy)
    address = (reachable(settings.host), int(facts["port"]))
    ready = await running.answers(address, "/readyz")
    yield Finding(
        "readiness",
        Verdict.OK if ready else Verdict.WRONG,
        f"{facts['public_url']}/readyz {'answers 200' if ready else 'does not answer 200'}",
        "" if ready else f"Read what it says: curl {facts['public_url']}/readyz",
    )


def _port(host: str, port: int) -> Finding:
    try:
        listen.take(host, port).close()
    except listen.PortTaken as error:
        fact, _, remedy = str(error).partition("\n")
        return Finding(f"port {port}", Verdict.WRONG, fact, remedy)
    return Finding(f"port {port}", Verdict.OK, f"free on {host}")


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.database_url
    if url is None:
        yield Finding(
            "database", Verdict.NOTE, "embedded PostgreSQL, not running", "Start it: make run"
        )
        return
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        ValueError,
    ) as error:
        yield Finding(
            "database", Verdict.WRONG, f"{masked(url)}: {_words(error)}", _why_not(error, url)
        )
        return
    try:
        number = int(await connection.fetchval("SELECT current_setting('server_version_num')"))
        version = await connection.fetchval("SELECT current_setting('server_version')")
        is_new = number >= POSTGRES_MIN
        remedy = "" if is_new else "Kami needs PostgreSQL 16 or newer."
        yield Finding(
            "database", Verdict.OK if is_new else Verdict.WRONG, f"PostgreSQL {version}", remedy
        )
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            value = await connection.fetchval("SELECT current_setting($1)", name)
            if value == "off":
                remedy = f"A power cut loses paid orders: ALTER SYSTEM SET {name} = on"
                verdict = Verdict.NOTE if settings.env == "test" else Verdict.WRONG
                yield Finding("database", verdict, f"{name} is off", remedy)
        yield await _migrations(connection)
        yield await _role(connection, settings)
        yield await _connections(connection, settings)
        yield _clock("database", await connection.fetchval("SELECT clock_timestamp()"))
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


def _why_not(error: BaseException, url: str) -> str:
    """What to do about a database that cannot be opened."""
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return f"Create it: CREATE DATABASE {urlsplit(url).path.lstrip('/') or 'kami'}"
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return "The server refuses user or password of KAMI_DATABASE_URL, or its pg_hba.conf this address."
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return "Its connections are used up: raise max_connections or stop what holds them."
    return "Is the server running, and are host, user, password and database of KAMI_DATABASE_URL right?"


async def _role(connection: Any, settings: Settings) -> Finding:
    """Whether the application works with the rights of its role, and whether those are what the code says."""
    needs = await rights.problem(connection, as_owner=True)
    if needs is not None:
        remedy = f"Let an administrator of the database run: {needs}; then: kami migrate"
        fact = f"{rights.ROLE} cannot be taken on: Kami works with the rights of who signs in"
        return Finding("role", Verdict.NOTE, fact, remedy)
    if differ := await rights.wrong(connection):
        fact = f"{rights.ROLE} has other rights than it should on {', '.join(differ)}"
        return Finding("role", Verdict.WRONG, fact, "Run: kami migrate")
    return Finding("role", Verdict.OK, f"{rights.ROLE}, as {len(rights.TABLES)} tables need it")


def _clock(whose: str, there: datetime) -> Finding:
    skew_s = abs((there - datetime.now(UTC)).total_seconds())
    fact = f"{whose}: {skew_s:.1f} s apart"
    if skew_s < CLOCK_SKEW_S:
        return Finding("clock", Verdict.OK, fact)
    remedy = "Signed messages are refused and leases end early: set both clocks by NTP."
    return Finding("clock", Verdict.WRONG, fact, remedy)


async def _migrations(connection: Any) -> Finding:
    files = migrate.files()
    if await connection.fetchval("SELECT to_regclass('schema_migration')") is None:
        return Finding("migrations", Verdict.WRONG, "none applied", "Run: kami migrate")
    applied = {row["name"] for row in await connection.fetch("SELECT name FROM schema_migration")}
    waiting = [path.name for path in files if path.name not in applied]
    newer = sorted(applied - {path.name for path in files})
    if waiting:
        return Finding(
            "migrations", Verdict.WRONG, f"waiting: {', '.join(waiting)}", "Run: kami migrate"
        )
    if newer:
        remedy = "The database is ahead of this checkout: update the code."
        return Finding("migrations", Verdict.WRONG, f"unknown here: {', '.join(newer)}", remedy)
    return Finding("migrations", Verdict.OK, f"all {len(files)} applied")


async def _connections(connection: Any, settings: Settings) -> Finding:
    """What this configuration may open at most, on one box, against what the server allows."""
    allowed = int(await connection.fetchval("SELECT current_setting('max_connections')"))
    used = int(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = $1", "client backend"
        )
    )
    workers = len(QUEUES) if settings.workers_separate else 1
    wanted = (
        settings.api_processes * API_CONNECTIONS + workers * WORKER_CONNECTIONS + SPARE_CONNECTIONS
    )
    fact = f"{used} in use; up to {wanted} wanted of {allowed}"
    if wanted > allowed or used > allowed * 0.8:
        remedy = f"Raise max_connections to {max(wanted, used * 2)} or run fewer processes."
        return Finding("connections", Verdict.WRONG, fact, remedy)
    return Finding("connections", Verdict.OK, fact)


async def _redis(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.redis_url
    if url is None:
        yield Finding(
            "queue server", Verdict.NOTE, "embedded Valkey, not running", "Start it: make run"
        )
        return
    client = Redis.from_url(
        url, socket_timeout=CONNECT_TIMEOUT_S, socket_connect_timeout=CONNECT_TIMEOUT_S
    )
    try:
        info: dict[str, Any] = await client.info()
        seconds, micros = await client.time()
        silent = [queue for queue, age in (await _heartbeats(client)).items() if age is None]
    except (OSError, RedisError, TimeoutError) as error:
        remedy = (
            "The server refuses user or password of KAMI_REDIS_URL."
            if isinstance(error, AuthenticationError)
            else "Is the server running, and are host and password of KAMI_REDIS_URL right?"
        )
        yield Finding("queue server", Verdict.WRONG, f"{masked(url)}: {_words(error)}", remedy)
        return
    finally:
        await client.aclose()
    name, least = ("Valkey", VALKEY_MIN) if "valkey_version" in info else ("Redis", REDIS_MIN)
    version = str(info.get("valkey_version") or info["redis_version"])
    is_new = int(version.partition(".")[0]) >= least
    remedy = "" if is_new else f"Kami needs {name} {least} or newer."
    yield Finding(
        "queue server", Verdict.OK if is_new else Verdict.WRONG, f"{name} {version}", remedy
    )
    policy = str(info.get("maxmemory_policy", "unknown"))
    keeps = policy == "noeviction"
    remedy = (
        "" if keeps else "It may drop queued work when full: CONFIG SET maxmemory-policy noeviction"
    )
    yield Finding(
        "queue server", Verdict.OK if keeps else Verdict.WRONG, f"maxmemory-policy {policy}", remedy
    )
    yield _clock("queue server", datetime.fromtimestamp(int(seconds) + int(micros) / 1e6, UTC))
    if silent:
        remedy = f"Nobody works for: {', '.join(silent)}. Start it: kami worker all, or one process per queue."
        # Nothing runs yet, or a part of what should run does not.
        verdict = Verdict.NOTE if len(silent) == len(QUEUES) else Verdict.WRONG
        yield Finding(
            "queues", verdict, f"{len(silent)} of {len(QUEUES)} without a sign of life", remedy
        )
    else:
        yield Finding("queues", Verdict.OK, "each has a worker")
    scheme = urlsplit(url).scheme
    if not settings.in_development and scheme == "redis":
        remedy = "Use rediss:// unless the network between is yours alone."
        yield Finding("queue server", Verdict.NOTE, "the connection is not encrypted", remedy)


async def _heartbeats(client: Any) -> dict[str, float | None]:
    """Seconds since each queue's last sign of life; None for one that is silent."""
    found = await heartbeat.ages_s(client)
    return {
        queue: age if age is not None and age <= heartbeat.LATE_S else None
        for queue, age in found.items()
    }


def _words(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return masked(text)


__all__ = ["Finding", "Verdict", "examine", "masked", "report"]
