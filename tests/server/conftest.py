"""Fixtures of the front door: an in-process client (`door`), and the toy contract behind a real server (`toy`)."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from server import processes
from tests.server import graphql_toy
from tests.server.graphql_client import Client

ROOT = Path(__file__).resolve().parents[2]
START_S, STOP_S = 30.0, 15.0


@pytest.fixture
def door() -> Client:
    """The toy contract in this process, as production has it: closed."""
    graphql_toy.state.__init__()  # type: ignore[misc]
    return Client(is_open=False)


@pytest.fixture
def open_door() -> Client:
    """The same, as in development."""
    graphql_toy.state.__init__()  # type: ignore[misc]
    return Client(is_open=True)


@dataclass(frozen=True)
class Toy:
    """A running server of the toy contract."""

    port: int
    pid: int
    log: Path

    @property
    def url(self) -> str:
        """Where GraphQL is posted."""
        return f"http://127.0.0.1:{self.port}/graphql"

    @property
    def ws_url(self) -> str:
        """Where sockets connect."""
        return f"ws://127.0.0.1:{self.port}/graphql"


def _run(mode: str) -> Iterator[Toy]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    handle, name = tempfile.mkstemp(prefix="kami-toy-", suffix=".log")
    log = Path(name)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.graphql_live", str(port), mode],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdout=handle,
        stderr=handle,
        preexec_fn=processes.on_parent_death(signal.SIGTERM),
    )
    os.close(handle)
    try:
        _wait(port, process, log)
        yield Toy(port, process.pid, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            log.unlink()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text("utf-8"))


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    """A live server in development mode."""
    yield from _run("development")


@pytest.fixture(scope="module")
def closed_toy() -> Iterator[Toy]:
    """A live server in production mode."""
    yield from _run("production")


def is_reset(line: socket.socket) -> bool:
    """Whether the peer has dropped a connection that this side does not read."""
    poll = select.poll()
    poll.register(line, select.POLLERR | select.POLLHUP)
    return bool(poll.poll(0))


def resident_bytes(toy: Toy) -> int:
    """Memory of the server process."""
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(toy.pid)], capture_output=True, check=True, timeout=10
    )
    return int(shown.stdout) * 1024
