"""What one `kami up` leaves for others to find: a lock, a record, a gate."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
from pathlib import Path
from typing import Any

from server import processes

GATE = "KAMI_GATE_FD"
_RECORD = "run.json"
_LOCK = "lock"


def lock(data_dir: Path) -> int | None:
    """An open lock file that only one supervisor of a data folder can hold; None when one does."""
    handle = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def taken_sentence(data_dir: Path) -> str:
    """Who runs on this data folder, and what to do."""
    facts = found(data_dir)
    where = f" at {facts['public_url']} (process {facts['pid']})" if facts else ""
    return f"Kami already runs from {data_dir}{where}.\nStop it with Ctrl-C, or name another folder: KAMI_DATA_DIR=…"


def record(data_dir: Path, facts: dict[str, Any]) -> None:
    """Write the record whole or not at all; readable by the owner only."""
    path = data_dir / _RECORD
    draft = path.with_suffix(".new")
    with open(draft, "w", encoding="utf-8", opener=_private) as file:
        json.dump(facts, file, indent=1)
    draft.replace(path)


def forget(data_dir: Path) -> None:
    """Remove the record."""
    (data_dir / _RECORD).unlink(missing_ok=True)


def found(data_dir: Path) -> dict[str, Any] | None:
    """The record of the supervisor that runs on `data_dir` now, or None."""
    try:
        facts: dict[str, Any] = json.loads((data_dir / _RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return facts if processes.alive(facts["pid"]) else None


class Gate:
    """Children load their code at once, then wait here until the database is migrated."""

    def __init__(self) -> None:
        self.waiting, self._ours = os.pipe()

    def open(self) -> None:
        """Let everybody in, those who start later too: nothing is written, the end of the pipe is the word."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def close(self) -> None:
        """Give the pipe back."""
        self.open()
        os.close(self.waiting)


def wait_at_gate() -> None:
    """In a child: wait until the supervisor opens the gate. Without a supervisor nothing happens."""
    gate = os.environ.pop(GATE, None)
    if gate is not None:
        select.select([int(gate)], [], [])
        os.close(int(gate))


async def answers(address: tuple[str, int], path: str) -> bool:
    """Whether `GET path` gives 200 within two seconds."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
