"""Operating-system facts the supervisor needs: who holds a port, is a process alive, how a child dies with us."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

LIFELINE = "KAMI_LIFELINE"  # "<parent pid>:<inherited end of a pipe that the parent never closes>"
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None) if _LINUX else None


def alive(pid: int) -> bool:
    """Whether process `pid` runs; a zombie is dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if _LINUX:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
    return True


def command(pid: int) -> str:
    """The command line of `pid`, "" when it is gone or hidden."""
    if _LINUX:
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    found = subprocess.run(
        ["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def stop(pid: int, signals: list[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn and wait its seconds for `pid` to go; false when it is still there."""
    for number, wait_s in signals:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            if not alive(pid):
                return True
            time.sleep(0.02)
    return not alive(pid)


def on_parent_death(number: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send `number` when the thread that started the child ends.

    Linux only (None elsewhere). Start the child from the main thread: the kernel watches the thread.
    """
    if _libc is None:
        return None
    libc, parent = _libc, os.getpid()

    def arm() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return arm


def call_me(name: str) -> None:
    """Show `name` (15 bytes of it) in `top` and `ps -o comm`; Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_NAME, name.encode()[:15])


def die_with(parent: int) -> None:
    """In a child, on Linux: be killed when `parent` (the thread that forked us) ends, however it ends."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def hold_lifeline() -> None:
    """In a child: end at once when the parent named by KAMI_LIFELINE ends, however it ends."""
    parent, _, pipe = os.environ.pop(LIFELINE, "").partition(":")
    if not parent:
        return
    if _libc is not None:
        os.close(int(pipe))
        die_with(int(parent))
        return
    threading.Thread(target=_watch, args=(int(pipe),), name="lifeline", daemon=True).start()


def _watch(pipe: int) -> None:
    # Nobody writes: read returns only when the last writing end is closed, that is when the parent is gone.
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def port_holder(port: int) -> str:
    """Who listens on TCP `port`, as "python3 (process 4711)"; "" when that cannot be seen."""
    pid = _listening_pid_linux(port) if _LINUX else _listening_pid_lsof(port)
    if pid is None:
        return ""
    words = command(pid)
    return f"{words[:80] or 'another user'} (process {pid})"


def _listening_pid_linux(port: int) -> int | None:
    wanted = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                wanted.add(f"socket:[{fields[9]}]")
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            for handle in folder.iterdir():
                if os.readlink(handle) in wanted:
                    return int(folder.parent.name)
        except OSError:
            continue
    return None


def _listening_pid_lsof(port: int) -> int | None:
    try:
        found = subprocess.run(
            ["lsof", "-nP", "-t", f"-iTCP:{port}", "-sTCP:LISTEN"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    first = found.stdout.split()[:1]
    return int(first[0]) if first else None
