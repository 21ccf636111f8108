"""One supervised process: start it, forward its words, start it again when it dies, stop it in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from server.lives import Life, Starter

STOP_S = 15.0
STEADY_S = 30.0  # who lived this long starts again without a pause
PAUSE_MIN_S, PAUSE_MAX_S = 0.2, 10.0
EARLY_DEATHS_MAX = 3
LINE_BYTES_MAX = 256 * 1024
READY = "KAMI_READY_FD"

Say = Callable[[str, str], None]


class ChildFailed(Exception):
    """A process does not come up at all; its words are above."""


@dataclass
class Child:
    """`kami <arguments>` under supervision, named `name` in the log.

    In arguments and environment "@2", "@3" … stand for the files of `inherit`.
    """

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    starter: Starter
    say: Say
    inherit: tuple[int, ...] = ()
    ended: Callable[[int], None] = lambda pid: None
    dies_on_purpose: bool = False  # by a failpoint: nothing is wrong with it
    restarts: int = 0
    life: Life | None = field(default=None, init=False)
    ready: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def start(self) -> None:
        """Run it until `stop()`."""
        self._task = asyncio.create_task(self._keep_running(), name=self.name)

    @property
    def pid(self) -> int | None:
        """The running process, None between two lives."""
        return self.life.pid if self.life is not None and not self.life.ended.done() else None

    @property
    def task(self) -> asyncio.Task[None]:
        """Ends with ChildFailed when the process never came up, else with `stop()`."""
        assert self._task is not None
        return self._task

    async def stop(self) -> None:
        """SIGTERM, fifteen seconds, SIGKILL for it and all it started."""
        self._stopping = True
        life = self.life
        if life is not None:
            life.send(signal.SIGTERM)
            done, _ = await asyncio.wait({life.ended}, timeout=STOP_S)
            if not done:
                self.say(self.name, f"does not stop within {STOP_S:.0f} s: killed")
                life.send(signal.SIGKILL)
                await asyncio.wait({life.ended}, timeout=STOP_S)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def kill(self) -> None:
        """SIGKILL, now."""
        if self.life is not None:
            self.life.send(signal.SIGKILL)

    async def _keep_running(self) -> None:
        pause_s, early = PAUSE_MIN_S, 0
        while not self._stopping:
            began = time.monotonic()
            ending = await self._once()
            if self._stopping:
                return
            lived_s = time.monotonic() - began
            early = 0 if self.ready.is_set() or lived_s > STEADY_S else early + 1
            if early >= EARLY_DEATHS_MAX:
                raise ChildFailed(f"{self.name} ended {early} times before it was ready")
            is_steady = lived_s > STEADY_S or self.dies_on_purpose
            pause_s = PAUSE_MIN_S if is_steady else min(pause_s * 2, PAUSE_MAX_S)
            self.restarts += 1
            self.say(self.name, f"{ending}; starting again in {pause_s:.1f} s")
            await asyncio.sleep(pause_s)

    async def _once(self) -> str:
        """One life; how it ended."""
        read_ready, write_ready = os.pipe()
        forwarding, output = forward(self.name, self.say)
        environment = {**self.environment, "KAMI_PROCESS": self.name, READY: "@1"}
        listener = asyncio.create_task(self._listen(read_ready))
        try:
            files = (output, write_ready, *self.inherit)
            self.life = life = await self.starter(self.arguments, environment, files)
        except OSError as error:
            listener.cancel()
            return f"could not be started ({error})"
        finally:
            os.close(output)
            os.close(write_ready)
        try:
            code = await asyncio.shield(life.ended)
            await forwarding
            return _ending(code)
        finally:
            listener.cancel()
            life.send(signal.SIGKILL)
            self.ended(life.pid)

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


def forward(name: str, say: Say) -> tuple[asyncio.Task[None], int]:
    """A task that says every line written into the returned file, until all who write have closed it."""
    reading, writing = os.pipe()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(LINE_BYTES_MAX)
        pipe = os.fdopen(reading, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:  # longer than the limit: asyncio has dropped it
                    say(name, "(a line that was too long)")
                    continue
                if not line:
                    return
                say(name, line.decode("utf-8", "replace").rstrip("\n"))
        finally:
            transport.close()

    return asyncio.create_task(run(), name=f"{name}.words"), writing


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
