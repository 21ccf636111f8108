"""The command line: it explains itself, answers fast, and never imports what a command does not need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from domain.core.settings import ROOT


def kami(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "server.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_names_every_command() -> None:
    done = kami("--help")

    assert done.returncode == 0
    for command in (
        "up",
        "serve",
        "worker",
        "sandbox",
        "migrate",
        "seed",
        "doctor",
        "demo",
        "reset",
    ):
        assert f" {command} " in done.stdout
    assert "hello" not in done.stdout


@pytest.mark.parametrize(
    "command", ["up", "serve", "worker", "migrate", "seed", "doctor", "sandbox"]
)
def test_each_command_has_help(command: str) -> None:
    done = kami(command, "--help")

    assert done.returncode == 0
    assert "Usage: kami" in done.stdout or "Usage:" in done.stdout
    assert "--help" in done.stdout


@pytest.mark.parametrize(
    ("option", "typed", "hint"),
    [("--from", "Hongkong", "two letters, e.g. HK"), ("--currency", "¥", "its code, e.g. JPY")],
)
def test_a_misspelt_country_or_currency_is_told_how_it_is_spelt(
    option: str, typed: str, hint: str
) -> None:
    done = kami("demo", "buy", option, typed)

    assert done.returncode == 2
    assert hint in " ".join(done.stderr.split())
    assert "Buying" not in done.stdout


def test_the_supervisor_imports_nothing_heavy() -> None:
    code = (
        "import sys, server.cli, server.supervisor\n"
        "heavy = {'strawberry', 'tortoise', 'asyncpg', 'redis', 'starlette', 'uvicorn', 'structlog',"
        " 'aiohttp', 'prometheus_client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["serve", "worker", "migrate", "seed"])
def test_without_servers_the_remedy_is_said(command: str, tmp_path: Path) -> None:
    done = kami(command, KAMI_DATA_DIR=str(tmp_path))

    assert done.returncode == 2
    assert "KAMI_DATABASE_URL and KAMI_REDIS_URL not set" in done.stderr
    assert "make run" in done.stderr


def test_an_unknown_queue_is_refused(tmp_path: Path) -> None:
    done = kami("worker", "laundry", KAMI_DATA_DIR=str(tmp_path))

    assert done.returncode == 2
    assert "settlement" in done.stderr


def test_the_launcher_works_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").write_text("raise SystemExit('not this one')")
    done = subprocess.run(
        [str(ROOT / "bin" / "kami"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if not (ROOT / ".venv" / "bin" / "python").exists():
        assert "make run" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "Usage: kami" in done.stdout


def test_reset_removes_the_data_after_a_yes(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "keep").write_text("x")

    assert kami("reset", KAMI_DATA_DIR=str(data_dir)).returncode != 0  # nobody said yes
    assert data_dir.exists()
    assert kami("reset", "--yes", KAMI_DATA_DIR=str(data_dir)).returncode == 0
    assert not data_dir.exists()
