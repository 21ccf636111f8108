"""`kami up` as a process: it restarts what dies, says who has the port, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from domain.core.settings import ROOT
from server import lives, processes, running
from server.embedded import ValkeyServer
from tests import database
from tests.live import LiveServer, free_port, start

ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def house(servers: database.Servers) -> Iterator[LiveServer]:
    """One platform for the tests of this file; they kill parts of it, but leave it whole."""
    with start(servers, f"kami_house_{os.getpid()}") as live:
        yield live


def kami(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *arguments],
        cwd=ROOT,
        env={**ENV, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def wait_ready(live: LiveServer, timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            if json.loads(get(f"{live.url}/readyz"))["status"] == "ready":
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(live.log())


def descendants(pid: int) -> set[int]:
    """All processes below `pid`, whoever's session they are in."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def test_everything_runs_and_is_recorded_for_the_owner_only(house: LiveServer) -> None:
    names = set(house.pids())
    record = house.data_dir / "run.json"

    assert {"api-1", "api-2", "worker", "sandbox", "valkey"} <= names
    assert "postgres" not in names  # KAMI_DATABASE_URL names another
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert get(f"{house.url}/healthz") == '{"status":"ok"}'
    wait_ready(house)


@pytest.mark.parametrize("name", ["api-1", "worker", "sandbox", "valkey"])
def test_a_killed_process_comes_back(house: LiveServer, name: str) -> None:
    before = house.pids()
    killed = house.kill(name)

    house.wait_back(name, killed)
    wait_ready(house)
    after = house.pids()
    assert {one: pid for one, pid in after.items() if one != name} == {
        one: pid for one, pid in before.items() if one != name
    }
    assert "starting again" in house.log()


@pytest.mark.skipif(not lives.CAN_FORK, reason="there is a nursery on Linux only")
def test_all_come_back_when_the_nursery_is_killed(house: LiveServer) -> None:
    before = house.pids()
    killed = house.kill("nursery")

    for name in ("api-1", "api-2", "worker", "sandbox"):
        house.wait_back(name, before[name])
    house.wait_back("nursery", killed)
    wait_ready(house)
    assert house.pids()["valkey"] == before["valkey"]
    assert not [name for name, pid in before.items() if name != "valkey" and processes.alive(pid)]


def test_metrics_are_the_sum_of_all_processes(house: LiveServer) -> None:
    wanted = {
        'kami_up{process="api"} 2.0',
        'kami_up{process="worker"} 1.0',
        'kami_up{process="sandbox"} 1.0',
        'kami_promises_dead{queue="general"} 0.0',
    }
    until = time.monotonic() + 20  # those killed above are still on their way back
    while missing := wanted - set(get(f"{house.url}/metrics").splitlines()):
        assert time.monotonic() < until, missing
        time.sleep(0.1)


def test_a_second_start_on_the_same_data_is_refused(house: LiveServer) -> None:
    done = kami("up", KAMI_DATA_DIR=str(house.data_dir), KAMI_PORT=str(free_port()))

    assert done.returncode == 1
    assert f"already runs from {house.data_dir}" in done.stderr
    assert house.url in done.stderr


def test_a_taken_port_is_said_clearly_before_anything_starts(
    house: LiveServer, tmp_path: Path
) -> None:
    port = house.url.rpartition(":")[2]
    done = kami("up", KAMI_DATA_DIR=str(tmp_path), KAMI_PORT=port)

    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken by another Kami" in done.stderr
    assert re.search(r"make run PORT=\d+", done.stderr)
    assert {path.name for path in tmp_path.iterdir()} <= {"secrets.env", "lock"}


def test_a_port_taken_by_somebody_else_names_them(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = kami("up", "--port", port, KAMI_DATA_DIR=str(tmp_path))

    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken by" in done.stderr
    assert f"(process {os.getpid()})" in done.stderr
    assert "another Kami" not in done.stderr
    assert not (tmp_path / "postgres").exists()


def test_doctor_finds_a_running_house_in_order(house: LiveServer) -> None:
    done = kami("doctor", KAMI_DATA_DIR=str(house.data_dir), KAMI_ENV="test")

    assert done.returncode == 0, done.stdout
    assert "Everything is in order." in done.stdout
    assert re.search(r"database +│ ok +│ PostgreSQL 1[6-9]", done.stdout)
    assert "maxmemory-policy noeviction" in done.stdout
    assert "all" in done.stdout
    for name in ("master_key", "signing_key"):
        assert re.search(rf"KAMI_{name.upper()} +│ •••••• \(set\)", done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sigterm_stops_everything_in_order(own_live_server: Callable[..., LiveServer]) -> None:
    live = own_live_server(KAMI_WORKERS_SEPARATE="true", KAMI_API_PROCESSES="1")
    everyone = descendants(live.process.pid)
    assert {f"worker-{queue}" for queue in ("settlement", "risk", "delivery", "general")} <= set(
        live.pids()
    )
    assert len(everyone) >= 7

    live.process.send_signal(signal.SIGTERM)
    assert live.process.wait(30) == 0
    assert not [processes.command(pid) for pid in everyone if processes.alive(pid)]
    assert running.found(live.data_dir) is None
    assert not list(live.data_dir.glob("*.socket"))
    words = live.log()
    assert "killed" not in words
    assert words.rstrip().endswith("has stopped")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_outlives_a_killed_supervisor(own_live_server: Callable[..., LiveServer]) -> None:
    live = own_live_server()
    everyone = descendants(live.process.pid)
    assert len(everyone) >= 5

    live.process.kill()
    until = time.monotonic() + 15
    while left := [processes.command(pid) for pid in everyone if processes.alive(pid)]:
        assert time.monotonic() < until, left
        time.sleep(0.05)
    assert running.found(live.data_dir) is None


_ELSEWHERE = """
from server import listen, lives, processes
listen.CAN_SHARE = lives.CAN_FORK = False
processes._libc = None
"""


@pytest.mark.skipif(sys.platform != "linux", reason="this is what other systems do anyway")
def test_it_works_without_what_only_linux_has(
    own_live_server: Callable[..., LiveServer], tmp_path: Path
) -> None:
    """No forks of a nursery, one socket for all API processes, a pipe instead of the kernel's word."""
    (tmp_path / "sitecustomize.py").write_text(_ELSEWHERE)
    live = own_live_server(PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert "nursery" not in live.pids()
    killed = live.kill("api-1")
    live.wait_back("api-1", killed)
    wait_ready(live)
    pids = live.pids()

    live.process.kill()
    until = time.monotonic() + 15
    while left := [name for name, pid in pids.items() if processes.alive(pid)]:
        if left == ["valkey"]:
            break
        assert time.monotonic() < until, left
        time.sleep(0.05)
    server = ValkeyServer(live.data_dir)  # the next start stops what was left
    server.start()
    server.stop()
    assert not processes.alive(pids["valkey"])


def test_start_failures_are_said_and_leave_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    done = kami(
        "up",
        KAMI_DATA_DIR=str(tmp_path),
        KAMI_PORT=str(free_port()),
        KAMI_DATABASE_URL="postgresql://kami@127.0.0.1:1/kami",
        KAMI_REDIS_URL="redis://127.0.0.1:1/0",
    )

    assert done.returncode == 1
    assert "`kami migrate --seed` failed" in done.stderr
    assert "127.0.0.1" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 30
    assert not (tmp_path / "run.json").exists()


def test_production_refuses_to_start_and_names_what_is_missing(tmp_path: Path) -> None:
    done = kami("up", KAMI_ENV="production", KAMI_DATA_DIR=str(tmp_path / "data"))

    assert done.returncode == 2
    assert "KAMI_MASTER_KEY is missing" in done.stderr
    assert "KAMI_SIGNING_KEY is missing" in done.stderr
    assert "token_urlsafe(32)" in done.stderr
    assert not (tmp_path / "data").exists()
