"""Small files, small functions: what is over the limit is listed with a reason, and only shrinks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREES = ("schema", "resolvers", "domain", "workers", "plugins", "i18n", "server", "tests", "bench")
# Code is formatted to 100; a sentence or a line of SQL may run on to 120.
FUNCTION_MAX, FILE_MAX, LINE_MAX = 70, 400, 120
KNOWN: dict[str, int] = {}


def sizes() -> Iterator[tuple[str, int, int]]:
    """(name, size, limit) of every file, longest line and function."""
    for path in sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py")):
        if "node_modules" in path.parts:
            continue
        name, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        lines = text.splitlines()
        yield name, len(lines), FILE_MAX
        yield f"{name}:line", max(map(len, lines), default=0), LINE_MAX
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.name}", (node.end_lineno or 0) - node.lineno + 1, FUNCTION_MAX


def test_sizes_only_shrink() -> None:
    over: dict[str, int] = {}
    for name, size, limit in sizes():
        if size > limit:
            over[name] = max(size, over.get(name, 0))

    assert over == KNOWN  # equal: a shrunk giant is taken off the list
