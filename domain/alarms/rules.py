"""How much may be read in an hour before somebody has to look: the rules as data, their limits from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

REVEALED, EXPORTED = "goods.reveal", "stock.export"
BUCKET, WINDOW = timedelta(minutes=10), timedelta(hours=1)
EVERYBODY = ""


class AlertKind(StrEnum):
    """Why somebody should look."""

    REVEAL_RATE = "reveal_rate"
    EXPORT_RATE = "export_rate"
    HONEY_USED = "honey_used"
    HONEY_FOUND = "honey_found"
    STOCK_LEAKED = "stock_leaked"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many of `action` in an hour, by one account or in a merchant; `setting` names the number, 0 is never.

    A reveal counts per order that is opened, an export per key that leaves.
    """

    kind: AlertKind
    action: str
    per_account: bool
    setting: str


LIMITS = (
    Limit(AlertKind.REVEAL_RATE, REVEALED, True, "alarm_reveals_per_account"),
    Limit(AlertKind.REVEAL_RATE, REVEALED, False, "alarm_reveals_per_merchant"),
    Limit(AlertKind.EXPORT_RATE, EXPORTED, True, "alarm_exported_per_account"),
    Limit(AlertKind.EXPORT_RATE, EXPORTED, False, "alarm_exported_per_merchant"),
)


def bucket(at: datetime) -> datetime:
    """The ten minutes a moment is in."""
    return at.replace(minute=at.minute // 10 * 10, second=0, microsecond=0)


def crossed(total: int, added: int, limit: int) -> int:
    """How many times over the limit a total is that `added` has just carried over a multiple of it; 0 when it has not.

    Each multiple rings once: who goes on after an owner has looked is told of again.
    """
    level = (total - 1) // limit if limit and total > 0 else 0
    return level if level > (total - added - 1) // (limit or 1) else 0
