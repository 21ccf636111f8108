"""The demo shop's logins: made by the seed, kept in the data folder for its owner only (0600)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

_FILE = "demo.json"


def keep(data_dir: Path, logins: Mapping[str, str] | None) -> None:
    """Store e-mail → password; None or {} (nothing was made this time) keeps what is there."""
    if not logins:
        return
    path = data_dir / _FILE
    merged = {**read(data_dir), **logins}
    draft = path.with_suffix(".new")
    with open(draft, "w", encoding="utf-8", opener=_private) as file:
        json.dump(merged, file, indent=1)
    draft.replace(path)


def read(data_dir: Path) -> dict[str, str]:
    """E-mail → password, {} before the first seed."""
    try:
        found: dict[str, str] = json.loads((data_dir / _FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
