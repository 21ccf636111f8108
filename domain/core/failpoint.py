"""Named places where a test may have this process killed, so that recovery is proved at every step (CASES K).

Off they cost a look at an empty dict. They are armed by the environment alone, and never in production:
`KAMI_FAILPOINTS="fulfil.in_tx:kill9@3x2 charge.after_call:kill9"` sends SIGKILL to the process that is there for the
third time in its life, twice in all; `KAMI_FAILPOINTS_DIR` is the folder in which all processes count the deaths.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

ARMED = "KAMI_FAILPOINTS"
FOLDER = "KAMI_FAILPOINTS_DIR"
_ENTRY = re.compile(r"([a-z_.]+):kill9(?:@([1-9][0-9]*))?(?:x([1-9][0-9]*))?")


class FailpointsWrong(ValueError):
    """KAMI_FAILPOINTS cannot be read, or its folder is not named."""


@dataclass(slots=True)
class _Failpoint:
    """A place that is deadly from its `at`-th visit of a process on, `times` in all processes together."""

    name: str
    at: int
    times: int
    folder: Path
    visits: int = 0

    def visit(self) -> None:
        self.visits += 1
        if self.visits < self.at:
            return
        for number in range(1, self.times + 1):
            try:
                mark = os.open(self.folder / f"{self.name}.{number}", os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue  # somebody has died this death
            os.close(mark)
            os.kill(os.getpid(), signal.SIGKILL)


_armed: dict[str, _Failpoint] | None = None


def reach(name: str) -> None:
    """This process is at `name`: go on, or die when it is armed."""
    global _armed
    if _armed is None:  # at the first visit: a forked process has an environment of its own
        _armed = load()
    if _armed and (found := _armed.get(name)) is not None:
        found.visit()


def load() -> dict[str, _Failpoint]:
    """What the environment arms, by name; nothing in production. Errors: FailpointsWrong."""
    entries = os.environ.get(ARMED, "").split()
    if not entries or os.environ.get("KAMI_ENV") == "production":
        return {}
    if not os.environ.get(FOLDER):
        raise FailpointsWrong(f"{ARMED} needs {FOLDER}")
    found = {}
    for entry in entries:
        parts = _ENTRY.fullmatch(entry)
        if parts is None:
            raise FailpointsWrong(entry)
        name, at, times = parts.groups()
        found[name] = _Failpoint(name, int(at or 1), int(times or 1), Path(os.environ[FOLDER]))
    return found
