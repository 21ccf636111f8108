"""The real platform as subprocesses: `kami up` on free ports, against a database of the test run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from domain.core.settings import SECRETS, settings
from server import places, processes, running
from tests import database

START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 40


@dataclass
class LiveServer:
    """A running platform. `url` has no trailing slash; secrets are those of the test process."""

    url: str
    sandbox_url: str
    database_url: str
    redis_url: str
    data_dir: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def ws_url(self) -> str:
        """Where subscriptions connect."""
        return self.url.replace("http", "ws", 1) + "/graphql"

    def pids(self) -> dict[str, int]:
        """The living processes by name ("api-1", "worker", "sandbox", "valkey", …)."""
        facts = running.found(self.data_dir)
        assert facts is not None, self.log()
        found = {**facts["processes"], **facts["servers"], "nursery": facts["nursery"]}
        return {name: pid for name, pid in found.items() if pid is not None}

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """`kill -9` one of them, or another signal; its pid. The supervisor starts it again."""
        pid = self.pids()[name]
        os.kill(pid, number)
        return pid

    def wait_back(self, name: str, killed: int, timeout_s: float = 30) -> int:
        """Wait until `name` runs again as another process; its pid."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            pid = self.pids().get(name, killed)
            if pid != killed and processes.alive(pid):
                return pid
            time.sleep(0.05)
        raise AssertionError(f"{name} is not back\n{self.log()}")

    def log(self) -> str:
        """What it has printed so far (the end of it)."""
        return (self.data_dir / "up.log").read_text("utf-8", "replace")[-8_000:]

    def stop(self) -> None:
        """Stop it in order and remove its data; fails when it needs force."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(STOP_TIMEOUT_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            places.remove(self.data_dir)

    def __enter__(self) -> LiveServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(servers: database.Servers, name: str, **environment: str) -> LiveServer:
    """Start `kami up` on a fresh database `name`; returns when it is ready.

    `KAMI_DATABASE_URL=""` lets it run a PostgreSQL of its own, which a test may then crash.
    """
    dsn = database.create_now(servers, name)
    data_dir = Path(tempfile.mkdtemp(prefix="kami-live-"))
    data_dir.chmod(0o711)
    known = {f"KAMI_{key.upper()}": getattr(settings(), key).get_secret_value() for key in SECRETS}
    known |= {"KAMI_ENV": "test", "KAMI_DATA_DIR": str(data_dir), "KAMI_DATABASE_URL": dsn}
    known |= {"KAMI_PORT": str(free_port()), "KAMI_LOG_FORMAT": "console"}
    known |= {"KAMI_API_PROCESSES": "2", **environment}
    known = {key: value for key, value in known.items() if value}
    with open(data_dir / "up.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "up"],
            cwd=database.ROOT,
            env={**os.environ, **known},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=processes.on_parent_death(signal.SIGTERM),
        )
    until = time.monotonic() + START_TIMEOUT_S
    while (facts := running.found(data_dir)) is None:
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            process.wait()
            words = (data_dir / "up.log").read_text("utf-8", "replace")[-8_000:]
            places.remove(data_dir)
            raise AssertionError(f"the platform does not start:\n{words}")
        time.sleep(0.05)
    return LiveServer(
        url=facts["public_url"],
        sandbox_url=facts["sandbox_url"],
        database_url=facts["database_url"],
        redis_url=facts["redis_url"],
        data_dir=data_dir,
        process=process,
    )


def free_port() -> int:
    """A port that is free now, below the range that outgoing connections use, with its neighbour free too.

    Each process of a run looks in a stretch of its own: what is free for two at once is taken by one of them.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    stretch = 20_000 + worker % 4 * 3_000
    for number in range(stretch + os.getpid() % 1_000, stretch + 3_000, 2):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", number))
                second.bind(("127.0.0.1", number + 1))
            except OSError:
                continue
            return number
    raise AssertionError("no free port")
