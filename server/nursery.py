"""A process that has loaded all code and forks the others: they start in a moment and share its memory.

Importing the platform costs two seconds of processor time; paid once instead of five times, a warm start is twice as
fast, what dies is back at once, and the processes share most of their pages. Only Linux: elsewhere system libraries
do not survive a fork without exec, and `child.py` starts every process on its own.

Spoken over a socket pair, one JSON datagram each way: to the nursery {"id", "arguments", "environment"} with open
files, from it {"id", "pid"} and {"pid", "code"}. "@0", "@1" … in arguments and environment stand for those files.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

from server import processes

CONTROL = "KAMI_NURSERY_FD"
MESSAGE_BYTES_MAX = 128 * 1024
FILES_MAX = 8
_CODE = (
    "schema.root",
    "server.app",
    "server.graphql.shaping",
    "server.sandbox.app",
    "server.seed",
    "server.serve",
    "server.telemetry",
    "server.logging",
    "workers.main",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvloop",
)


def run() -> None:
    """Load the code, then fork on request until the supervisor is gone; never returns in a child."""
    control = socket.socket(fileno=int(os.environ.pop(CONTROL)))
    gc.disable()
    for name in _CODE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child must not touch, and so copy, what is shared
    gc.enable()
    ended, wakeup = socket.socketpair()
    ended.setblocking(False)
    wakeup.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wakeup.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control.send(b"{}")  # loaded
    while True:
        readable, _, _ = select.select([control, ended], [], [])
        if ended in readable:
            ended.recv(4096)
            _report_ended(control)
        if control in readable:
            message, files, _, _ = socket.recv_fds(control, MESSAGE_BYTES_MAX, FILES_MAX)
            if not message:
                return
            _fork(control, (ended, wakeup), json.loads(message), files)


def _report_ended(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _fork(
    control: socket.socket,
    own: tuple[socket.socket, ...],
    message: dict[str, Any],
    files: list[int],
) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        for one in (control, *own):
            one.close()
        code = 1
        try:
            processes.die_with(parent)
            code = _become(message, files)
        finally:
            os._exit(code)
    for handle in files:
        os.close(handle)
    control.send(json.dumps({"id": message["id"], "pid": pid}).encode())


def _become(message: dict[str, Any], files: list[int]) -> int:
    """In the fork: be `kami <arguments>`; the exit code. The first file is stdout and stderr."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (files[0], 1), (files[0], 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(files[0])
    os.environ.clear()
    os.environ.update({name: fill(text, files) for name, text in message["environment"].items()})
    processes.call_me(f"kami {os.environ.get('KAMI_PROCESS', '')}")
    code = 1
    try:
        from server.cli import app

        app([fill(one, files) for one in message["arguments"]], prog_name="kami")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()  # type: ignore[attr-defined,unused-ignore]
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def fill(text: str, files: list[int] | tuple[int, ...]) -> str:
    """`@1` becomes the number of the second file; everything else stays."""
    return str(files[int(text[1:])]) if text[:1] == "@" and text[1:].isdigit() else text
