"""`kami doctor`: what is wrong is named with its remedy and makes the exit code 1; secrets stay hidden."""

from __future__ import annotations

import io
import secrets
from pathlib import Path

import pytest
from rich.console import Console

from domain.core.settings import load, settings
from server import doctor
from tests.database import as_owner


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
    monkeypatch.setenv("KAMI_PORT", "47116")
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
