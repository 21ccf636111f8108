"""Reference rates of the ECB on one dated day, shipped as a file: works offline, for development.

Where real money moves a snapshot ages like any other table, so that production refuses to quote by it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from domain.fx.ports import Published

FILE: Final = Path(__file__).parent / "data" / "ecb-2026-10-30.json"


@dataclass(frozen=True, slots=True)
class EcbSnapshot:
    """The shipped table; `stale_after` None keeps it usable for ever."""

    stale_after: timedelta | None = None
    file: Path = FILE
    name: str = "ecb_snapshot"

    async def fetch(self) -> Published:
        """The same table every time."""
        table = json.loads(self.file.read_text("utf-8"))
        taken_at = datetime.fromisoformat(table["date"]).replace(hour=14, tzinfo=UTC)
        return Published(
            provider="ecb-snapshot",
            base=table["base"],
            taken_at=taken_at,
            stale_at=taken_at + self.stale_after if self.stale_after else None,
            rates={currency: Decimal(rate) for currency, rate in table["rates"].items()},
        )
