"""A running process as the supervisor sees it, and the two ways to start one: exec, or a fork of the nursery."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import STDOUT
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.core.settings import ROOT
from server import processes
from server.nursery import CONTROL, fill

CAN_FORK = sys.platform == "linux"
LOST = -int(signal.SIGKILL)


@dataclass
class Life:
    """One run of one process; it leads its own process group."""

    pid: int
    ended: asyncio.Future[int] = field(repr=False)

    def send(self, number: signal.Signals) -> None:
        """Signal it; SIGKILL reaches all it has started too."""
        if self.ended.done():
            return  # its number may belong to somebody else by now
        try:
            (os.killpg if number is signal.SIGKILL else os.kill)(self.pid, number)
        except ProcessLookupError:
            pass


class Starter(Protocol):
    """Starts `kami <arguments>`; "@n" in arguments and environment is the n-th file, the first is stdout."""

    async def __call__(
        self, arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int]
    ) -> Life:
        """Errors: OSError."""
        ...


async def launch(
    arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int]
) -> Life:
    """A Starter: a new interpreter. It dies with us, by the kernel or by a pipe that ends with us."""
    read_life, write_life = os.pipe()
    open_files = list(files)
    known = {name: fill(text, open_files) for name, text in environment.items()}
    known[processes.LIFELINE] = f"{os.getpid()}:{read_life}"
    command = [sys.executable, "-m", "server.cli", *(fill(one, open_files) for one in arguments)]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=files[0],
            stderr=STDOUT,
            env=known,
            cwd=ROOT,
            pass_fds=(*files[1:], read_life),
            start_new_session=True,  # Ctrl-C is for the supervisor
        )
    except BaseException:
        os.close(write_life)
        raise
    finally:
        os.close(read_life)
    ended = asyncio.ensure_future(process.wait())
    ended.add_done_callback(lambda _: os.close(write_life))
    return Life(process.pid, ended)


class Nursery:
    """A Starter: forks of one process that has loaded the code. It is started when needed, again when it dies."""

    def __init__(
        self,
        environment: Mapping[str, str],
        output: Callable[[], tuple[asyncio.Task[None], int]],
    ) -> None:
        self._environment = environment
        self._output = output
        self._words: asyncio.Task[None] | None = None
        self._life: Life | None = None
        self._control: socket.socket | None = None
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Life]] = {}
        self._lives: dict[int, asyncio.Future[int]] = {}
        self._starting = asyncio.Lock()

    async def __call__(
        self, arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int]
    ) -> Life:
        """Ask for a fork; one that dies with the nursery ends as if killed. Errors: OSError."""
        async with self._starting:
            control = await self._ensure()
        number = next(self._ids)
        answer: asyncio.Future[Life] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        message = {"id": number, "arguments": list(arguments), "environment": dict(environment)}
        socket.send_fds(control, [json.dumps(message).encode()], list(files))
        return await answer

    @property
    def pid(self) -> int | None:
        """The process that forks, None before the first and between two."""
        return self._life.pid if self._life is not None and not self._life.ended.done() else None

    async def stop(self) -> None:
        """End it, and with it whatever it has forked."""
        if self._life is not None:
            self._life.send(signal.SIGKILL)
            await self._life.ended
        self._lose()

    async def _ensure(self) -> socket.socket:
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._words, output = self._output()
        try:
            environment = {**self._environment, CONTROL: "@1", "KAMI_PROCESS": "nursery"}
            self._life = await launch(["nursery"], environment, [output, theirs.fileno()])
        finally:
            theirs.close()
            os.close(output)
        asyncio.get_running_loop().add_reader(ours, self._hear)
        self._control = ours
        return ours

    def _hear(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lose()
            return
        facts = json.loads(message)
        if "id" in facts:
            ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._lives[facts["pid"]] = ended
            answer, life = self._asked.pop(facts["id"]), Life(facts["pid"], ended)
            if answer.done():
                life.send(signal.SIGKILL)  # nobody waits for it any more
            else:
                answer.set_result(life)
        elif "code" in facts:
            self._lives.pop(facts["pid"]).set_result(facts["code"])

    def _lose(self) -> None:
        """It is gone, and the kernel has killed its forks."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the code could not be loaded"))
        for ended in self._lives.values():
            ended.set_result(LOST)
        self._asked.clear()
        self._lives.clear()
