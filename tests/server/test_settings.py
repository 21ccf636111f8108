"""Settings: typed, refused with the name and the remedy, secrets made once and for the owner only."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domain.core.settings import SECRETS, SettingsWrong, ensure_secrets, load

Set = Callable[..., None]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    """`env(port="1")` sets KAMI_PORT; the data folder is a fresh one."""
    monkeypatch.setenv("KAMI_ENV", "development")
    monkeypatch.setenv("KAMI_DATA_DIR", str(tmp_path / "data"))

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"KAMI_{name.upper()}", value)

    return put


def production(env: Set, **more: str) -> None:
    env(
        env="production",
        database_url="postgresql://kami:pw@db.internal/kami",
        redis_url="rediss://queue.internal:6379/0",
        public_url="https://shop.example",
        master_key=secrets.token_urlsafe(32),
        signing_key=secrets.token_urlsafe(32),
    )
    env(**more)


def refused() -> list[str]:
    with pytest.raises(SettingsWrong) as caught:
        load()
    return caught.value.problems


def test_development_needs_no_setting_and_keeps_its_secrets(env: Set, tmp_path: Path) -> None:
    first, second = load(), load()

    file = tmp_path / "data" / "secrets.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for name in SECRETS:
        assert len(first.secret(name)) == 32
        assert first.secret(name) == second.secret(name)
    assert len({first.secret(name) for name in SECRETS}) == len(SECRETS)
    assert first.database_url is None
    assert first.public_url == "http://127.0.0.1:8000"
    assert first.sandbox_url == "http://127.0.0.1:8001"
    assert first.sandbox_autoconfirm_ms == 300


def test_processes_that_start_together_agree_on_the_secrets(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ensure_secrets(tmp_path), range(32)))

    assert all(one == found[0] for one in found)
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.env"]


def test_secrets_are_in_no_text(env: Set) -> None:
    env(database_url="postgresql://kami:hunter2@db/kami", smtp_url="smtp://u:hunter2@mail")
    found = load()

    assert "hunter2" not in repr(found)
    for name in SECRETS:
        assert getattr(found, name).get_secret_value() not in f"{found!r} {found}"


def test_production_starts_with_everything_named(env: Set, tmp_path: Path) -> None:
    production(env)
    found = load()

    assert not found.in_development
    assert found.log_format == "json"
    assert found.sandbox_url is None
    assert found.sandbox_autoconfirm_ms is None
    assert not (tmp_path / "data").exists()  # nothing is made up


@pytest.mark.parametrize("name", ["master_key", "signing_key"])
@pytest.mark.parametrize("value", ["", "short", "A" * 43, "not base64url!"])
def test_production_refuses_without_a_good_secret(
    env: Set, name: str, value: str, tmp_path: Path
) -> None:
    production(env, **{name: value})
    problems = refused()

    assert len(problems) == 1
    assert problems[0].startswith(f"KAMI_{name.upper()}")
    assert "token_urlsafe(32)" in problems[0]
    assert value not in problems[0].split("make one")[0] or not value
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["database_url", "redis_url"])
def test_production_refuses_embedded_servers(env: Set, name: str) -> None:
    production(env, **{name: ""})

    assert [problem.split()[0] for problem in refused()] == [f"KAMI_{name.upper()}"]


def test_production_refuses_to_be_killed_on_purpose(env: Set) -> None:
    production(env, failpoints="fulfil.in_tx:kill9")

    assert [problem.split()[0] for problem in refused()] == ["KAMI_FAILPOINTS"]


def test_production_refuses_plain_http_and_one_key_for_two_purposes(env: Set) -> None:
    key = secrets.token_urlsafe(32)
    production(env, public_url="http://shop.example", master_key=key, signing_key=key)

    assert {problem.split()[0] for problem in refused()} == {"KAMI_PUBLIC_URL", "KAMI_SIGNING_KEY"}


def test_an_empty_sandbox_secret_never_signs(env: Set) -> None:
    production(env)
    found = load()

    with pytest.raises(SettingsWrong, match="KAMI_SANDBOX_SECRET"):
        found.secret("sandbox_secret")
    production(env, sandbox_url="https://sandbox.example")
    assert refused()[0].startswith("KAMI_SANDBOX_SECRET is missing")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "eighty"),
        ("port", "0"),
        ("port", "70000"),
        ("env", "prod"),
        ("trusted_proxies", "*"),
        ("trusted_proxies", "10.0.0.0/8,nonsense"),
        ("database_url", "mysql://x/y"),
        ("redis_url", "http://x"),
        ("public_url", "shop.example"),
    ],
)
def test_a_wrong_value_is_refused_by_name(env: Set, name: str, value: str) -> None:
    env(**{name: value})
    problems = refused()

    assert len(problems) == 1
    assert name in problems[0].lower()


def test_an_empty_value_is_no_value_and_lists_take_commas(env: Set) -> None:
    env(port="", trusted_proxies="10.0.0.0/8, 192.0.2.7")
    found = load()

    assert found.port == 8000
    assert found.trusted_proxies == ["10.0.0.0/8", "192.0.2.7"]
