"""Dependencies: locked with hashes and without addresses, everything named is locked, nothing is below its floor."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# Security floors and first usable versions; the reasons stand beside each.
FLOORS = {
    "strawberry-graphql": "0.341",  # CVE-2026-35523, CVE-2026-35526, unmasked errors before 0.323.2
    "graphql-core": "3.3.1",  # CVE-2026-75507, -75508, -119286: validator bombs
    "starlette": "1.10",  # CVE-2026-48710, CVE-2026-54283, CVE-2025-62727, CVE-2025-54121
    "tortoise-orm": "1.1.9",  # PYSEC-2020-144
    "asyncpg": "0.32",
    "arq": "0.28.0",
    "redis": "5.3",  # CVE-2023-28858/9; below 6 because of arq
    "uvicorn": "0.54",
    "maxminddb": "3.2",
    "joserfc": "1.8",  # what its predecessors let through: CVE-2024-37568, CVE-2026-27962, CVE-2026-28802
}
NEVER = {"python-jose", "ecdsa", "aerich", "pickle5"}


def locked(name: str) -> dict[str, str]:
    """Package → pinned version of a lock file."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", text, re.MULTILINE))


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)][:3]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[ <>=!~;\[]", one, maxsplit=1)[0].lower() for one in requirements}


@pytest.mark.parametrize("name", ["base", "dev", "uv"])
def test_locks_have_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip())

    assert "://" not in text
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    assert [block for block in blocks if "==" not in block.splitlines()[0]] == []


def test_everything_named_is_locked_and_dev_holds_base() -> None:
    base, dev = locked("base"), locked("dev")

    assert names(PROJECT["dependencies"]) - set(base) == set()
    assert names(PROJECT["optional-dependencies"]["dev"]) - set(dev) == set()
    assert {one: pin for one, pin in base.items() if dev.get(one) != pin} == {}  # `make lock`


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_nothing_is_below_its_floor(name: str) -> None:
    assert numbers(locked("base")[name]) >= numbers(FLOORS[name])
    assert numbers(importlib.metadata.version(name)) >= numbers(FLOORS[name])


def test_what_is_dangerous_is_not_there() -> None:
    assert set(locked("dev")) & NEVER == set()
    assert numbers(locked("base")["redis"]) < [6]
