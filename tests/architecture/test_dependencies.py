"""Dependencies: locked with hashes and without addresses, everything named is locked, nothing is below its floor."""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# Security floors and first usable versions, each with its reason.
FLOORS: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("floors.json").read_text("utf-8")
)
LOCKS = ("base", "dev")
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
def test_h45_nothing_is_below_its_floor(name: str) -> None:
    floor = FLOORS[name]
    pins = [pins[name] for pins in map(locked, LOCKS) if name in pins]

    assert pins, f"{name} is not locked any more: take its floor away"
    for version in [*pins, importlib.metadata.version(name)]:
        assert numbers(version) >= numbers(floor["floor"]), floor["why"]
        assert "below" not in floor or numbers(version) < numbers(floor["below"])
    assert len(floor["why"]) > 20


def test_h45_everything_that_reads_what_strangers_send_has_a_floor() -> None:
    parsers = {"graphql-core", "starlette", "h11", "aiohttp", "orjson", "joserfc", "cryptography"}

    assert parsers | {"redis", "authlib", "urllib3", "strawberry-graphql"} <= set(FLOORS)


@pytest.mark.parametrize(
    ("lower", "higher"), [("1.9", "1.10"), ("0.341", "0.341.1"), ("3.3", "3.3.1"), ("5.3.1", "6")]
)
def test_versions_are_compared_by_number(lower: str, higher: str) -> None:
    assert numbers(lower) < numbers(higher)


def test_what_is_dangerous_is_not_there() -> None:
    assert set(locked("dev")) & NEVER == set()
