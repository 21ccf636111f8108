"""One supervised process: start it, forward its words, start it again when it dies, stop it in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from domain.core.settings import ROOT
from server import processes

STOP_S = 15.0
STEADY_S = 30.0  # who lived this long starts again without a pause
PAUSE_MIN_S, PAUSE_MAX_S = 0.2, 10.0
EARLY_DEATHS_MAX = 3
LINE_BYTES_MAX = 256 * 1024
READY = "KAMI_READY_FD"


class ChildFailed(Exception):
    """A process does not come up at all; its words are above."""


@dataclass
class Child:
    """`kami <arguments>` under supervision, named `name` in the log."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    say: Callable[[str, str], None]
    inherit: tuple[int, ...] = ()
    ended: Callable[[int], None] = lambda pid: None
    restarts: int = 0
    process: Process | None = field(default=None, init=False)
    ready: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def start(self) -> None:
        """Run it until `stop()`."""
        self._task = asyncio.create_task(self._keep_running(), name=self.name)

    @property
    def pid(self) -> int | None:
        """The running process, None between two lives."""
        process = self.process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def task(self) -> asyncio.Task[None]:
        """Ends with ChildFailed when the process never came up, else with `stop()`."""
        assert self._task is not None
        return self._task

    async def stop(self) -> None:
        """SIGTERM, fifteen seconds, SIGKILL for it and all it started."""
        self._stopping = True
        if self.process is not None and self.process.returncode is None:
            self._send(signal.SIGTERM)
            try:
                await asyncio.wait_for(asyncio.shield(self.process.wait()), STOP_S)
            except TimeoutError:
                self.say(self.name, f"does not stop within {STOP_S:.0f} s: killed")
                self.kill()
                await self.process.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def kill(self) -> None:
        """SIGKILL, now."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.process is None or self.process.returncode is not None:
            return
        try:
            # Every child leads its own process group.
            if number is signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        except ProcessLookupError:
            pass

    async def _keep_running(self) -> None:
        pause_s, early = PAUSE_MIN_S, 0
        while not self._stopping:
            began = time.monotonic()
            code = await self._once()
            if self._stopping:
                return
            lived_s = time.monotonic() - began
            early = 0 if self.ready.is_set() or lived_s > STEADY_S else early + 1
            if early >= EARLY_DEATHS_MAX:
                raise ChildFailed(f"{self.name} ended {early} times before it was ready")
            pause_s = PAUSE_MIN_S if lived_s > STEADY_S else min(pause_s * 2, PAUSE_MAX_S)
            self.restarts += 1
            self.say(self.name, f"{_ending(code)}; starting again in {pause_s:.1f} s")
            await asyncio.sleep(pause_s)

    async def _once(self) -> int:
        read_ready, write_ready = os.pipe()
        read_life, write_life = os.pipe()
        environment = {
            **self.environment,
            "KAMI_PROCESS": self.name,
            READY: str(write_ready),
            processes.LIFELINE: f"{os.getpid()}:{read_life}",
        }
        try:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "server.cli",
                *self.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                env=environment,
                cwd=ROOT,
                pass_fds=(*self.inherit, write_ready, read_life),
                start_new_session=True,  # Ctrl-C is for the supervisor
                limit=LINE_BYTES_MAX,
            )
        finally:
            os.close(write_ready)
            os.close(read_life)
        process = self.process
        listener = asyncio.create_task(self._listen(read_ready))
        try:
            await self._forward(process)
            return await process.wait()
        finally:
            listener.cancel()
            os.close(write_life)
            self._send(signal.SIGKILL)
            self.ended(process.pid)

    async def _listen(self, pipe: int) -> None:
        """Set `ready` when the child writes its byte; an end without one is a death, not a word."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[None] = loop.create_future()

        def hear() -> None:
            loop.remove_reader(pipe)
            heard.set_result(None)

        loop.add_reader(pipe, hear)
        try:
            await heard
            if os.read(pipe, 1):
                self.ready.set()
        finally:
            loop.remove_reader(pipe)
            os.close(pipe)

    async def _forward(self, process: Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the limit: asyncio has dropped it
                self.say(self.name, "(a line that was too long)")
                continue
            if not line:
                return
            self.say(self.name, line.decode("utf-8", "replace").rstrip("\n"))


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def tell_ready() -> None:
    """In a child: the supervisor may count on us from now on. Without a supervisor nothing happens."""
    pipe = os.environ.pop(READY, None)
    if pipe is not None:
        os.write(int(pipe), b"1")
        os.close(int(pipe))


def is_supervised() -> bool:
    """Whether a supervisor waits for our word."""
    return READY in os.environ
