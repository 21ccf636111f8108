"""Every noun has a door, and nobody climbs in through a window."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOUNS = sorted(
    path.parent.name
    for path in (ROOT / "domain").glob("*/__init__.py")
    if path.parent.name != "core"
)
# What a stranger may import besides the door: plain values and pure rules.
OPEN = {"models", "rules", "ports", "conditions"}
LAYERS = ("schema", "resolvers", "workers", "server", "plugins")


@pytest.mark.parametrize("noun", NOUNS)
def test_a_door_says_what_it_is_and_what_it_offers(noun: str) -> None:
    door = importlib.import_module(f"domain.{noun}")

    assert door.__doc__
    assert door.__doc__.strip().endswith(".")
    assert list(door.__all__) == sorted(door.__all__, key=_order), "sorted as ruff sorts __all__"
    assert [name for name in door.__all__ if not hasattr(door, name)] == []


def _order(name: str) -> tuple[int, str]:
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_layers_above_use_doors_values_and_rules_only() -> None:
    through_windows = [
        f"{path.relative_to(ROOT)}: {module}"
        for layer in LAYERS
        for path in (ROOT / layer).rglob("*.py")
        for module in _imports(path)
        if module.startswith("domain.")
        and module.count(".") >= 2
        and not module.startswith("domain.core")
        if module.split(".")[2] not in OPEN
    ]

    assert through_windows == []


def test_first_line_of_every_file_says_what_it_is_for() -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for layer in (*LAYERS, "domain", "i18n", "bench", "tests")
        for path in (ROOT / layer).rglob("*.py")
        if "node_modules" not in path.parts
        if path.read_text("utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]

    assert silent == []
