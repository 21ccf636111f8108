"""`kami up`: start the embedded servers, migrate, seed, run the processes, restart what dies, stop in order."""

from __future__ import annotations

import asyncio
import fcntl
import glob
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from domain.core import failpoint
from domain.core.settings import ROOT, SECRETS, Settings, make_data_dir
from server import listen, running
from server.child import PAUSE_MAX_S, PAUSE_MIN_S, Child, ChildFailed, forward
from server.embedded import PostgresServer, ValkeyServer
from server.lives import CAN_FORK, Nursery, Starter, launch
from server.places import ServerFailed

READY_TIMEOUT_S = 60.0
WATCH_S = 0.5
QUEUES = ("settlement", "risk", "delivery", "general")
_DEAD_KEPT = 50  # metric files of dead processes: their counts stay in the sums, up to this many
_COLOURS = (36, 32, 33, 35, 34)

Server = PostgresServer | ValkeyServer


class StartFailed(Exception):
    """Kami cannot start; the text says why and what to do."""


@dataclass
class Supervisor:
    """The one parent of everything that `kami up` runs."""

    settings: Settings
    seed: bool = True
    servers: list[Server] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    _sockets: list[socket.socket] = field(default_factory=list)
    _dead: deque[int] = field(default_factory=deque)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _gate: running.Gate = field(default_factory=running.Gate)
    _recorded: dict[str, object] = field(default_factory=dict)
    _starter: Starter = launch
    _nursery: Nursery | None = None

    async def run(self) -> int:
        """Start, stay, stop; the exit code. Errors: StartFailed, PortTaken."""
        began = time.monotonic()
        make_data_dir(self.settings.data_dir)
        lock = running.lock(self.settings.data_dir)
        if lock is None:
            raise StartFailed(running.taken_sentence(self.settings.data_dir))
        try:
            self._take_ports()
            self._catch_signals()
            return await self._run_inside(began)
        finally:
            await self._stop_all()
            running.forget(self.settings.data_dir)
            self._gate.close()
            for taken in self._sockets:
                taken.close()
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    async def _run_inside(self, began: float) -> int:
        try:
            started = asyncio.create_task(self._start(began))
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({started, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                started.cancel()
                await asyncio.gather(started, return_exceptions=True)
                return 0
            started.result()
            await self._stay(stopping)
            return 0
        except (ServerFailed, ChildFailed) as error:
            raise StartFailed(str(error)) from error

    def _take_ports(self) -> None:
        wanted = self.settings
        take = listen.hold if listen.CAN_SHARE else listen.take
        self._sockets.append(take(wanted.host, wanted.port))
        # A provider named in the environment runs elsewhere; production has none unless it is named.
        if wanted.in_development and not os.environ.get("KAMI_SANDBOX_URL"):
            self._sockets.append(listen.take_near(wanted.host, wanted.port + 1))

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        if self._stopping.is_set():
            self.say("kami", "stopping now")
            for child in self.children:
                child.kill()
        else:
            self.say("kami", "stopping; once more to stop at once")
            self._stopping.set()

    async def _start(self, began: float) -> None:
        self.say("kami", f"starts; its data is in {self.settings.data_dir}")
        await self._start_servers()
        self.environment = self._environment()
        if CAN_FORK:
            self._starter = self._nursery = Nursery(
                self.environment, lambda: forward("nursery", self.say)
            )
        self._start_children()
        await self._migrate()
        self._gate.open()
        await self._wait_ready()
        self._record()
        self.say("kami", f"is ready after {time.monotonic() - began:.1f} s")
        await self._say_hello()

    async def _start_servers(self) -> None:
        folder = self.settings.data_dir
        if self.settings.database_url is None:
            self.servers.append(PostgresServer(folder))
        if self.settings.redis_url is None:
            self.servers.append(ValkeyServer(folder))
        for server in self.servers:
            await asyncio.to_thread(server.prepare)
            server.spawn()  # not in the thread: the kernel ties the server's life to the one that forks
        for server in self.servers:
            await asyncio.to_thread(server.wait_ready)

    def _environment(self) -> dict[str, str]:
        """What every child is told; relative paths have been made absolute by the settings."""
        settings = self.settings
        metrics = settings.data_dir / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir()
        known = {
            "KAMI_ENV": settings.env,
            "KAMI_DATA_DIR": str(settings.data_dir),
            "KAMI_DATABASE_URL": settings.database_url or self._url(PostgresServer),
            "KAMI_REDIS_URL": settings.redis_url or self._url(ValkeyServer),
            "KAMI_HOST": settings.host,
            "KAMI_PORT": str(settings.port),
            "KAMI_PUBLIC_URL": settings.public_url,
            "KAMI_SANDBOX_URL": settings.sandbox_url or "",
            "KAMI_GEOIP_DB": str(settings.geoip_db or ""),
            "KAMI_LOG_FORMAT": settings.log_format,
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        for taken in self._sockets[1:]:
            address = (settings.sandbox_url or "").rpartition(":")[0]
            known["KAMI_SANDBOX_URL"] = f"{address}:{taken.getsockname()[1]}"
        for name in SECRETS:
            known[f"KAMI_{name.upper()}"] = getattr(settings, name).get_secret_value()
        return {**os.environ, **known}

    def _url(self, kind: type[Server]) -> str:
        return next(server.url for server in self.servers if isinstance(server, kind))

    def _start_children(self) -> None:
        """Everything starts at once and imports its code, then waits at the gate for the migrations."""
        for number in range(1, self.settings.api_processes + 1):
            if listen.CAN_SHARE:
                self._child(f"api-{number}", ["serve", "--shared"])
            else:
                self._child(f"api-{number}", ["serve"], self._sockets[0])
        queues = QUEUES if self.settings.workers_separate else ("all",)
        for queue in queues:
            self._child("worker" if queue == "all" else f"worker-{queue}", ["worker", queue])
        for taken in self._sockets[1:]:
            self._child("sandbox", ["sandbox"], taken)

    def _child(self, name: str, arguments: list[str], port: socket.socket | None = None) -> None:
        inherit = [self._gate.waiting]
        if port is not None:
            arguments = [*arguments, "--fd", "@3"]
            inherit.append(port.fileno())
        environment = {**self.environment, running.GATE: "@2"}
        child = Child(
            name,
            arguments,
            environment,
            self._starter,
            self.say,
            inherit=tuple(inherit),
            ended=self._forget,
            dies_on_purpose=failpoint.ARMED in environment,
        )
        self.children.append(child)
        child.start()

    async def _migrate(self) -> None:
        """Bring the database up to date and, in development, make the demo shop. Errors: StartFailed."""
        arguments = ["migrate", "--seed"] if self.seed else ["migrate"]
        forwarding, output = forward("migrate", self.say)
        try:
            life = await self._starter(arguments, self.environment, [output])
        except OSError as error:
            raise StartFailed(f"the code of Kami cannot be loaded: {error}") from error
        finally:
            os.close(output)
        try:
            code = await asyncio.shield(life.ended)
            await forwarding
        except asyncio.CancelledError:
            life.send(signal.SIGKILL)
            raise
        if code != 0:
            raise StartFailed(f"`kami {' '.join(arguments)}` failed; its reason is above")

    async def _say_hello(self) -> None:
        """Written to our own terminal, in colour."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.cli", "hello", env=self.environment, cwd=ROOT
        )
        try:
            await process.wait()
        except asyncio.CancelledError:  # asked to stop meanwhile
            process.kill()
            await process.wait()
            raise

    async def _wait_ready(self) -> None:
        until = time.monotonic() + READY_TIMEOUT_S
        for child in self.children:
            while not child.ready.is_set():
                if child.task.done():
                    child.task.result()  # ChildFailed
                if time.monotonic() > until:
                    raise StartFailed(f"{child.name} does not come up; the log above says why")
                await asyncio.sleep(0.02)
        while not await running.answers(self._sockets[0].getsockname()[:2], "/readyz"):
            if time.monotonic() > until:
                raise StartFailed("the API does not report ready (/readyz); the log above says why")
            await asyncio.sleep(0.05)

    async def _stay(self, stopping: asyncio.Task[bool]) -> None:
        """Until somebody asks us to stop: restart embedded servers; children restart themselves."""
        pauses_s = dict.fromkeys((server.name for server in self.servers), PAUSE_MIN_S)
        while not stopping.done():
            for server in self.servers:
                if server.died():
                    pause_s = pauses_s[server.name]
                    is_back = await self._restart(server, pause_s)
                    pauses_s[server.name] = (
                        PAUSE_MIN_S if is_back else min(pause_s * 2, PAUSE_MAX_S)
                    )
            self._record()
            await asyncio.wait({stopping}, timeout=WATCH_S)

    async def _restart(self, server: Server, pause_s: float) -> bool:
        self.say(server.name, f"has died; starting again in {pause_s:.1f} s")
        await asyncio.sleep(pause_s)
        try:
            server.spawn()
            await asyncio.to_thread(server.wait_ready)
        except ServerFailed as error:
            self.say(server.name, str(error))
            return False
        self.say(server.name, "is back")
        return True

    async def _stop_all(self) -> None:
        """Those who serve and work first, then whom they call, then the databases."""
        callers = [child for child in self.children if child.name != "sandbox"]
        called = [child for child in self.children if child.name == "sandbox"]
        for group in (callers, called):
            await asyncio.gather(*(child.stop() for child in group), return_exceptions=True)
        if self._nursery is not None:
            await self._nursery.stop()
        for server in reversed(self.servers):
            await asyncio.to_thread(server.stop)
        if self.children:
            self.say("kami", "has stopped")

    def _record(self) -> None:
        facts: dict[str, object] = {
            "pid": os.getpid(),
            "public_url": self.settings.public_url,
            "port": self.settings.port,
            "database_url": self.environment["KAMI_DATABASE_URL"],
            "redis_url": self.environment["KAMI_REDIS_URL"],
            "sandbox_url": self.environment["KAMI_SANDBOX_URL"],
            "processes": {child.name: child.pid for child in self.children},
            "servers": {server.name: server.pid for server in self.servers},
            "nursery": self._nursery.pid if self._nursery is not None else None,
            "restarts": {child.name: child.restarts for child in self.children if child.restarts},
        }
        if facts != self._recorded:
            running.record(self.settings.data_dir, facts)
            self._recorded = facts

    def _forget(self, pid: int) -> None:
        """A dead process: its gauges go, its counts stay in the sums (the oldest of many go too)."""
        folder = self.environment["PROMETHEUS_MULTIPROC_DIR"]
        self._dead.append(pid)
        old = [self._dead.popleft()] if len(self._dead) > _DEAD_KEPT else []
        patterns = [f"gauge_live*_{pid}.db", *(f"*_{one}.db" for one in old)]
        for pattern in patterns:
            for path in glob.glob(pattern, root_dir=folder):
                Path(folder, path).unlink(missing_ok=True)

    def say(self, name: str, text: str) -> None:
        """One line of log, from us or a child; a child's JSON passes unchanged."""
        if self.settings.log_format == "json":
            line = text if text.startswith("{") else json.dumps({"process": name, "event": text})
        elif sys.stdout.isatty():
            colour = _COLOURS[sum(name.encode()) % len(_COLOURS)]
            line = f"\033[{colour}m{name:>10}\033[0m │ {text}"
        else:
            line = f"{name:>10} | {text}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def up(settings: Settings, *, seed: bool = True) -> int:
    """Run the supervisor until a signal; the exit code. Errors: StartFailed, PortTaken."""
    return asyncio.run(Supervisor(settings, seed=seed).run())
