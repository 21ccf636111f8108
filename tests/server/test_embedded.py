"""The embedded servers, as root and as an ordinary user: private, found again, gone when nobody needs them."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from domain.core.settings import ROOT
from server import places, processes
from server.embedded import PostgresServer, ValkeyServer

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
DAEMON = pwd.getpwnam("daemon")  # an ordinary user that every system has
below_public_folders = pytest.mark.skipif(
    not places.passable(ROOT, places.Owner(DAEMON.pw_uid, DAEMON.pw_gid, drop=True)),
    reason="the checkout is below a private home",
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that any user may pass through; pytest's own are closed to `nobody`."""
    made = Path(tempfile.mkdtemp(prefix="kami-embedded-"))
    made.chmod(0o711)
    yield made / "data"
    places.remove(made / "data")
    shutil.rmtree(made, ignore_errors=True)


async def ask(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def owner(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid if sys.platform == "linux" else -1


def test_postgres_keeps_its_data_and_is_private(folder: Path) -> None:
    server = PostgresServer(folder)
    dsn = server.start()
    try:
        asyncio.run(ask(dsn, "CREATE TABLE kept AS SELECT 42 AS n"))
        facts = {
            name: asyncio.run(ask(dsn, f"SHOW {name}"))
            for name in (
                "fsync",
                "synchronous_commit",
                "listen_addresses",
                "jit",
                "server_encoding",
            )
        }
        assert server.socket_dir is not None
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (server.home, server.socket_dir)]
        socket_dir = server.socket_dir
    finally:
        server.stop()
    again = PostgresServer(folder)
    try:
        assert asyncio.run(ask(again.start(), "SELECT n FROM kept")) == 42
    finally:
        again.stop()

    assert facts == {
        "fsync": "on",
        "synchronous_commit": "on",
        "listen_addresses": "",
        "jit": "off",
        "server_encoding": "UTF8",
    }
    assert modes == [0o700, 0o700]
    assert len(f"{socket_dir}/.s.PGSQL.5432") <= places.SOCKET_PATH_MAX
    assert not socket_dir.exists()
    assert server.pid is None


def test_valkey_keeps_its_data_and_never_evicts(folder: Path) -> None:
    async def put(url: str) -> list[object]:
        client = Redis.from_url(url)
        await client.set("kept", "42")
        facts = await client.config_get("maxmemory-policy"), await client.config_get("port")
        await client.aclose()
        return [facts[0]["maxmemory-policy"], facts[1]["port"]]

    async def get(url: str) -> bytes | None:
        client = Redis.from_url(url)
        found = await client.get("kept")
        await client.aclose()
        return found  # type: ignore[no-any-return]

    server = ValkeyServer(folder)
    try:
        assert asyncio.run(put(server.start())) == ["noeviction", "0"]
    finally:
        server.stop()
    again = ValkeyServer(folder)
    try:
        assert asyncio.run(get(again.start())) == b"42"
    finally:
        again.stop()


@as_root
def test_as_root_the_servers_are_somebody_else(folder: Path) -> None:
    postgres, valkey = PostgresServer(folder), ValkeyServer(folder)
    try:
        postgres.start()
        valkey.start()
        assert postgres.pid is not None
        assert valkey.pid is not None
        nobody = pwd.getpwnam("nobody").pw_uid
        assert {owner(postgres.pid), owner(valkey.pid)} <= {nobody, -1}
        assert postgres.home.stat().st_uid == nobody
    finally:
        valkey.stop()
        postgres.stop()


@as_root
def test_as_root_below_a_private_home_the_data_lies_elsewhere(folder: Path) -> None:
    private = folder.parent / "home"
    private.mkdir(mode=0o700)
    data_dir = private / "kami" / ".kami"
    server = PostgresServer(data_dir)
    try:
        assert asyncio.run(ask(server.start(), "SELECT 1")) == 1
        link = data_dir / "postgres"
        assert link.is_symlink()
        assert not server.home.is_relative_to(private)
        assert stat.S_IMODE(private.stat().st_mode) == 0o700  # nothing was opened for it
    finally:
        server.stop()
        elsewhere = server.home
        places.remove(data_dir)
    assert not elsewhere.exists()


def _as_user(uid: int, work: Callable[[], Any]) -> Any:
    """Run `work` in a fork that has become `uid`; what it returns, as JSON."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # xdist runs threads; the fork uses none
        pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(write, json.dumps({"ok": work()}).encode())
        except BaseException as error:
            os.write(write, json.dumps({"error": repr(error)}).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(pid, 0)
    assert "error" not in answer, answer
    return answer["ok"]


@as_root
@below_public_folders
def test_as_an_ordinary_user_the_servers_are_their_own(folder: Path) -> None:
    folder.parent.chmod(0o777)
    uid = DAEMON.pw_uid

    def work() -> list[Any]:
        postgres, valkey = PostgresServer(folder), ValkeyServer(folder)
        try:
            one = asyncio.run(ask(postgres.start(), "SELECT 1"))
            valkey.start()
            assert postgres.pid is not None
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, postgres.home)]
            return [one, owner(postgres.pid) in (uid, -1), modes]
        finally:
            valkey.stop()
            postgres.stop()

    assert _as_user(uid, work) == [1, True, [0o700, 0o700]]
    # Root meets the data of an ordinary user: it runs the server as that user and takes nothing over.
    again = PostgresServer(folder)
    try:
        again.start()
        assert again.home.stat().st_uid == uid
    finally:
        again.stop()


@as_root
@below_public_folders
def test_an_ordinary_user_is_told_that_the_data_is_roots(folder: Path) -> None:
    server = PostgresServer(folder)
    server.prepare()
    server.stop()
    folder.chmod(0o777)

    def work() -> str:
        try:
            PostgresServer(folder).start()
        except places.ServerFailed as error:
            return str(error)
        return "started"

    words = _as_user(DAEMON.pw_uid, work)
    assert "belongs to another user" in words
    assert str(folder) in words


_LAUNCHER = """
import os, signal, sys
from pathlib import Path
from server import processes
from server.embedded import PostgresServer, ValkeyServer
if sys.argv[2] == "orphans":
    processes.on_parent_death = lambda number: None  # as on a system without prctl
for kind in (PostgresServer, ValkeyServer):
    server = kind(Path(sys.argv[1]))
    server.start()
    print(server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def launch_and_kill(folder: Path, how: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, str(folder), how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return [int(line) for line in done.stdout.split()]


def wait_gone(pids: list[int], timeout_s: float = 10) -> None:
    until = time.monotonic() + timeout_s
    while any(processes.alive(pid) for pid in pids):
        assert time.monotonic() < until, pids
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends them on Linux only")
def test_servers_end_with_a_killed_launcher(folder: Path) -> None:
    wait_gone(launch_and_kill(folder, "armed"))


def test_servers_left_by_a_killed_launcher_are_stopped_at_the_next_start(folder: Path) -> None:
    left = launch_and_kill(folder, "orphans")
    assert all(processes.alive(pid) for pid in left)
    old = [Path((folder / f"{name}.socket").read_text().strip()) for name in ("postgres", "valkey")]

    postgres, valkey = PostgresServer(folder), ValkeyServer(folder)
    try:
        assert asyncio.run(ask(postgres.start(), "SELECT 1")) == 1
        valkey.start()
        wait_gone(left)
    finally:
        valkey.stop()
        postgres.stop()
    assert not any(path.exists() for path in old)


def test_another_process_with_a_recorded_number_is_left_alone(folder: Path) -> None:
    server = PostgresServer(folder)
    server.start()
    server.stop()
    (server.home / "postmaster.pid").write_text(f"{os.getpid()}\n{server.home}\n", "ascii")

    try:
        server.start()
        assert processes.alive(os.getpid())
    finally:
        server.stop()


def test_data_of_another_version_is_refused_in_words(folder: Path) -> None:
    server = PostgresServer(folder)
    server.prepare()
    server.stop()
    (server.home / "PG_VERSION").write_text("15\n", "ascii")

    with pytest.raises(places.ServerFailed, match=r"written by PostgreSQL 15.*pg_dump"):
        server.start()
    server.stop()
