"""The whole platform as `make run` starts it, in a folder of its own, for benchmarks that buy from it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil  # type: ignore[import-untyped,unused-ignore]

from bench.ground import cpu_s, environment, pss_mib
from domain import catalogue
from domain.core import db
from domain.core.settings import ROOT, settings
from server import places, processes, running

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 40


@dataclass(frozen=True)
class House:
    """A running platform; `started_s` is from the command to the sentence that it is ready."""

    url: str
    database_url: str
    redis_url: str
    data_dir: Path
    started_s: float
    pid: int

    def pids(self) -> dict[str, int]:
        """Its processes by name."""
        facts = running.found(self.data_dir)
        assert facts is not None, "the platform has died"
        found: dict[str, Any] = {
            "supervisor": facts["pid"],
            **facts["processes"],
            **facts["servers"],
        }
        return {name: pid for name, pid in found.items() if pid}

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far by kind of process; PostgreSQL with all its backends."""
        seconds: dict[str, float] = {}
        for name, pid in self.pids().items():
            kind = name.rstrip("-0123456789")
            seconds[kind] = seconds.get(kind, 0.0) + cpu_s(pid, children=kind == "postgres")
        return seconds

    def memory(self) -> dict[str, float]:
        """MiB (PSS) of every process of the platform's tree, by name where there is one."""
        names = {pid: name for name, pid in self.pids().items()}
        found: dict[str, float] = {}
        tree = psutil.Process(self.pid).children(recursive=True)
        for pid in [self.pid, *(child.pid for child in tree)]:
            with contextlib.suppress(OSError):
                name = names.get(pid) or (
                    "postgres" if "postgres" in processes.command(pid) else "nursery"
                )
                found[name] = found.get(name, 0.0) + pss_mib(pid)
        return found


@contextlib.contextmanager
def house(folder: Path | None = None, **more: str) -> Iterator[House]:
    """Start `kami up` with embedded servers; the settings of this process become its settings.

    With `folder` that data folder is used and stays, so that a second start finds it.
    """
    data_dir = folder or Path(tempfile.mkdtemp(prefix="kami-bench-house-"))
    data_dir.chmod(0o711)
    with environment(data_dir):
        os.environ.update(
            KAMI_DATA_DIR=str(data_dir),
            KAMI_ENV="development",
            KAMI_PORT=str(free_port()),
            KAMI_LOG_LEVEL="warning",
            **more,
        )
        settings.cache_clear()
        began = time.perf_counter()
        process = _start(data_dir)
        try:
            facts = _ready(data_dir, process)
            settings.cache_clear()
            yield House(
                url=facts["public_url"],
                database_url=facts["database_url"],
                redis_url=facts["redis_url"],
                data_dir=data_dir,
                started_s=time.perf_counter() - began,
                pid=process.pid,
            )
        finally:
            _stop(process)
            if folder is None:
                places.remove(data_dir)


def _start(data_dir: Path) -> subprocess.Popen[bytes]:
    with open(data_dir / "up.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "server.cli", "up"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=processes.on_parent_death(signal.SIGTERM),
        )


def _ready(data_dir: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    until = time.monotonic() + START_TIMEOUT_S
    while (facts := running.found(data_dir)) is None:
        if process.poll() is not None or time.monotonic() > until:
            words = (data_dir / "up.log").read_text("utf-8", "replace")[-4_000:]
            raise AssertionError(f"the platform does not start:\n{words}")
        time.sleep(0.02)
    return facts


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def free_port() -> int:
    """A port that is free now, with its neighbour free too, below the range of outgoing connections."""
    for number in range(21_000 + os.getpid() % 5_000, 32_000, 2):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", number))
                second.bind(("127.0.0.1", number + 1))
            except OSError:
                continue
            return number
    raise AssertionError("no free port")


async def stock(variant_id: UUID, keys: int) -> None:
    """Put `keys` fresh card keys of a variant on the shelf; needs an open pool on the house's database."""
    merchant_id = await db.value("SELECT merchant_id FROM variant WHERE id = $1", variant_id)
    tag = uuid4().hex[:8]
    async with db.transaction():
        lot_no = await db.value(
            "INSERT INTO stock_lot (merchant_id, variant_id) VALUES ($1, $2) RETURNING no",
            merchant_id,
            variant_id,
        )
        codes = [f"BENCH-{tag}-{place:08d}" for place in range(keys)]
        await catalogue.put(merchant_id, variant_id, lot_no, codes)
