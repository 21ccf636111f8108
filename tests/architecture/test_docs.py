"""The page about the house names files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "ARCHITECTURE.md"
LAYERS = ("schema", "resolvers", "domain", "workers")
_CODE = re.compile(r"`([\w./-]+)`")
_DOCS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
_TREES = "|".join((*LAYERS, "server", "plugins", "tests", "bench", "web", "i18n", "docs", "bin"))
_PATH = re.compile(rf"`((?:{_TREES})/[\w./-]+)`")


def test_the_matrix_names_files_of_its_layers() -> None:
    lines = PAGE.read_text("utf-8").split("## The matrix")[1].split("\n\n")[1].splitlines()
    rows = [line.strip("|").split("|") for line in lines[2:]]

    assert len(rows) > 10
    missing = [
        f"{layer}/{name}"
        for _, *cells in rows
        for layer, cell in zip(LAYERS, cells, strict=True)
        for name in _CODE.findall(cell)
        if not (ROOT / layer / name).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *_DOCS])
def test_a_path_that_a_page_names_is_there(page: str) -> None:
    named = _PATH.findall((ROOT / page).read_text("utf-8"))

    assert [name for name in named if not (ROOT / name).exists() and "decisions" not in name] == []
