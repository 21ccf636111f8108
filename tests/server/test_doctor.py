"""`kami doctor`: what is wrong is named with its remedy and makes the exit code 1; secrets stay hidden."""

from __future__ import annotations

import io
import re
import secrets
from pathlib import Path

import pytest
from rich.console import Console

from domain.core import bell, heartbeat, rights
from domain.core.settings import load, settings
from server import doctor, listen
from tests.database import as_owner
from tests.live import free_port


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAMI_DATA_DIR", str(tmp_path / "data"))


async def report() -> tuple[int, str]:
    out = io.StringIO()
    code = await doctor.report(Console(file=out, width=200))
    return code, out.getvalue()


async def findings() -> dict[str, list[doctor.Finding]]:
    found: dict[str, list[doctor.Finding]] = {}
    async for one in doctor.examine(load()):
        found.setdefault(one.what, []).append(one)
    return found


async def test_a_fresh_machine_has_nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAMI_PORT", str(free_port()))
    code, text = await report()

    assert code == 0
    assert "embedded PostgreSQL, not running" in text
    assert "Start it: make run" in text


async def test_secrets_and_passwords_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    key = secrets.token_urlsafe(32)
    monkeypatch.setenv("KAMI_MASTER_KEY", key)
    monkeypatch.setenv("KAMI_DATABASE_URL", "postgresql://kami:hunter2@127.0.0.1:1/kami")
    monkeypatch.setenv("KAMI_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    code, text = await report()

    assert code == 1
    assert key not in text
    assert "hunter2" not in text
    assert "postgresql://kami:••••••@127.0.0.1:1/kami" in text
    assert text.count("Is the server running") == 2


async def test_a_misspelt_setting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAMI_DATABSE_URL", "postgresql://x")

    assert (await findings())["KAMI_DATABSE_URL"][0].verdict is doctor.Verdict.WRONG


async def test_wrong_settings_are_listed_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAMI_ENV", "production")
    code, text = await report()

    assert code == 1
    assert "KAMI_MASTER_KEY is missing" in text


async def test_open_secrets_and_a_missing_geoip_file_are_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load()
    (tmp_path / "data" / "secrets.env").chmod(0o644)
    monkeypatch.setenv("KAMI_GEOIP_DB", str(tmp_path / "none.mmdb"))
    found = await findings()

    assert found["secrets file"][0].verdict is doctor.Verdict.WRONG
    assert found["secrets file"][0].remedy.startswith("Others can read it: chmod 600")
    assert found["GeoIP database"][0].verdict is doctor.Verdict.WRONG


async def test_the_database_is_looked_at_and_not_written(db: None) -> None:
    assert settings().database_url is not None
    found = await findings()

    words = [(one.fact, one.verdict) for one in found["database"]]
    assert words[0][0].startswith("PostgreSQL 1")
    # The tests' own server gives up durability for speed: here a note, elsewhere wrong.
    assert ("fsync is off", doctor.Verdict.NOTE) in words
    assert found["migrations"][0].verdict is doctor.Verdict.OK
    assert ("maxmemory-policy noeviction", doctor.Verdict.OK) in [
        (one.fact, one.verdict) for one in found["queue server"]
    ]


async def test_a_database_that_can_lose_commits_is_wrong(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAMI_ENV", "development")
    words = [(one.fact, one.verdict) for one in (await findings())["database"]]

    assert ("fsync is off", doctor.Verdict.WRONG) in words


async def test_more_processes_than_connections_is_wrong(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await findings())["connections"][0].verdict is doctor.Verdict.OK

    monkeypatch.setenv("KAMI_API_PROCESSES", "40")
    found = (await findings())["connections"][0]
    assert found.verdict is doctor.Verdict.WRONG
    assert found.remedy == "Raise max_connections to 426 or run fewer processes."


async def test_waiting_migrations_are_named(db: None) -> None:
    await as_owner("DELETE FROM schema_migration WHERE name LIKE '0001%'")
    found = await findings()

    assert found["migrations"][0].verdict is doctor.Verdict.WRONG
    assert "0001_core.sql" in found["migrations"][0].fact
    assert found["migrations"][0].remedy == "Run: kami migrate"


async def test_a_database_ahead_of_the_code_is_wrong(db: None) -> None:
    await as_owner("INSERT INTO schema_migration (name, sha256) VALUES ('9999_later.sql', '')")

    assert "9999_later.sql" in (await findings())["migrations"][0].fact


async def test_the_changes_of_the_tests_above_are_undone(db: None) -> None:
    found = await findings()

    assert found["migrations"][0].verdict is doctor.Verdict.OK


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("ENV", "prod", "KAMI_ENV: must be 'development', 'production' or 'test'"),
        ("PORT", "eighty", "KAMI_PORT: must be a whole number"),
        ("DATABASE_URL", "mysql://x", "KAMI_DATABASE_URL: must look like postgresql://user:"),
        (
            "OWNER_DATABASE_URL",
            "kami",
            "KAMI_OWNER_DATABASE_URL: must look like postgresql://user:",
        ),
        ("REDIS_URL", "memcached://x", "KAMI_REDIS_URL: must look like redis://user:"),
        ("PUBLIC_URL", "kami.example", "KAMI_PUBLIC_URL: must be an address that starts with"),
        ("SANDBOX_URL", "nowhere", "KAMI_SANDBOX_URL: must be an address that starts with"),
        ("OTEL_ENDPOINT", "collector", "KAMI_OTEL_ENDPOINT: must be an address that starts with"),
        ("TRUSTED_PROXIES", "*", "KAMI_TRUSTED_PROXIES: '*' trusts an address that anyone can"),
        ("MASTER_KEY", "short", "KAMI_MASTER_KEY: not base64url; make one with: python3 -c"),
        ("SIGNING_KEY", "A" * 43, "KAMI_SIGNING_KEY: not random; make one with: python3 -c"),
        (
            "MASTER_KEYS_RETIRED",
            "1:zz",
            "KAMI_MASTER_KEYS_RETIRED takes <lower version>:<base64url",
        ),
        (
            "FX_FEED",
            "manual",
            "KAMI_FX_MANUAL_RATES is missing while KAMI_FX_FEED=manual. Set it like",
        ),
        (
            "FX_MANUAL_RATES",
            '{"USD": "NaN"}',
            'KAMI_FX_MANUAL_RATES: must look like {"USD": "1.08"}',
        ),
        ("SUPPLIERS", "acme", 'KAMI_SUPPLIERS: must look like {"acme": {"url": "https://'),
        (
            "SUPPLIERS",
            '{"acme": {"url": "https://a.example", "secret": "short"}}',
            "24 bytes; make",
        ),
        ("SMTP_URL", "mail.example", "KAMI_SMTP_URL: must look like smtp://user:password@host:587"),
        ("MAIL_FROM", "nobody", "KAMI_MAIL_FROM: must look like: Kami <no-reply@shop.example>"),
        ("WORKERS_SEPARATE", "perhaps", "KAMI_WORKERS_SEPARATE: must be true or false"),
        ("LIVE_HEARTBEAT_S", "0", "KAMI_LIVE_HEARTBEAT_S: must be greater than 0"),
        ("DATA_DIR", "/proc/none", "Name a folder that this user may write to"),
    ],
)
async def test_a_wrong_setting_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    monkeypatch.setenv(f"KAMI_{name}", text)
    code, told = await report()

    assert code == 1
    assert words in " ".join(told.replace("│", " ").split())
    assert "Traceback" not in told


async def test_a_geoip_file_that_is_none_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "country.mmdb"
    path.write_bytes(b"<html>moved</html>")
    monkeypatch.setenv("KAMI_GEOIP_DB", str(path))
    [found] = (await findings())["GeoIP database"]

    assert found.verdict is doctor.Verdict.WRONG
    assert found.fact == f"{path} is no MaxMind DB file"
    assert found.remedy.startswith("Take a country file in MaxMind DB format")


async def test_a_database_that_is_missing_is_told_how_to_be_made(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = settings().database_url
    assert there is not None
    monkeypatch.setenv("KAMI_DATABASE_URL", re.sub(r"/kami_\w+\?", "/nowhere?", there))
    [found] = (await findings())["database"]

    assert found.verdict is doctor.Verdict.WRONG
    assert found.remedy == "Create it: CREATE DATABASE nowhere"


async def test_a_database_that_is_too_old_is_wrong(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "POSTGRES_MIN", 990_000)
    found = (await findings())["database"][0]

    assert found.verdict is doctor.Verdict.WRONG
    assert found.remedy == "Kami needs PostgreSQL 16 or newer."


async def test_a_queue_server_that_drops_keys_is_wrong(db: None) -> None:
    await bell.server().config_set("maxmemory-policy", "allkeys-lru")
    try:
        facts = {one.fact: one for one in (await findings())["queue server"]}
    finally:
        await bell.server().config_set("maxmemory-policy", "noeviction")

    found = facts["maxmemory-policy allkeys-lru"]
    assert found.verdict is doctor.Verdict.WRONG
    assert found.remedy.endswith("CONFIG SET maxmemory-policy noeviction")


async def test_queues_without_a_worker_are_named(db: None) -> None:
    [nobody] = (await findings())["queues"]
    await heartbeat.beat("settlement", "risk", "general")
    [one_missing] = (await findings())["queues"]
    await heartbeat.beat("delivery")
    [all_there] = (await findings())["queues"]

    assert nobody.verdict is doctor.Verdict.NOTE
    assert one_missing.verdict is doctor.Verdict.WRONG
    assert one_missing.remedy.startswith("Nobody works for: delivery. Start it: kami worker all")
    assert all_there.verdict is doctor.Verdict.OK


async def test_clocks_that_differ_are_wrong(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {one.verdict for one in (await findings())["clock"]} == {doctor.Verdict.OK}

    monkeypatch.setattr(doctor, "CLOCK_SKEW_S", -1.0)
    found = (await findings())["clock"]
    assert [one.fact.partition(":")[0] for one in found] == ["database", "queue server"]
    assert {one.verdict for one in found} == {doctor.Verdict.WRONG}


async def test_h31_the_role_is_looked_at(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    [well] = (await findings())["role"]
    await as_owner("GRANT DELETE ON ledger_journal TO kami_app")
    try:
        [wrong] = (await findings())["role"]
    finally:
        await as_owner("REVOKE DELETE ON ledger_journal FROM kami_app")
    monkeypatch.setattr(rights, "ROLE", "kami_nobody")
    [missing] = (await findings())["role"]

    assert well.verdict is doctor.Verdict.OK
    assert (wrong.verdict, wrong.remedy) == (doctor.Verdict.WRONG, "Run: kami migrate")
    assert wrong.fact == "kami_app has other rights than it should on ledger_journal"
    assert missing.verdict is doctor.Verdict.NOTE
    assert "CREATE ROLE kami_nobody NOLOGIN" in missing.remedy


async def test_a_taken_port_says_who_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen.take("127.0.0.1", 0) as ours:
        port = ours.getsockname()[1]
        monkeypatch.setenv("KAMI_PORT", str(port))
        [found] = (await findings())[f"port {port}"]

    assert found.verdict is doctor.Verdict.WRONG
    assert str(port) in found.fact
    assert found.remedy
