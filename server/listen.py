"""Take the ports before anything is started, and say clearly who has them when they are taken."""

from __future__ import annotations

import errno
import socket
import sys

from server import processes

BACKLOG = 2048
CAN_SHARE = sys.platform == "linux"  # elsewhere SO_REUSEPORT does not spread connections
_TRIES = 20


class PortTaken(Exception):
    """A port cannot be had; the text says who has it and what to do."""


def take(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Errors: PortTaken with the remedy."""
    try:
        return _bind(host, port)
    except OSError as error:
        raise PortTaken(_remedy(host, port, error)) from error


def take_near(host: str, port: int) -> socket.socket:
    """The first free port from `port` on; for servers whose number is nobody's habit."""
    for number in range(port, min(port + _TRIES, 65536)):
        try:
            return _bind(host, number)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise PortTaken(_remedy(host, number, error)) from error
    raise PortTaken(f"Ports {port} to {port + _TRIES - 1} on {host} are all taken.")


def hold(host: str, port: int) -> socket.socket:
    """Reserve a port for processes that will `join` it; nothing is answered on it yet. Errors: PortTaken."""
    take(host, port).close()  # without SO_REUSEPORT, so that nobody else's server is joined
    return _bind(host, port, shared=True, listening=False)


def join(host: str, port: int) -> socket.socket:
    """A listening socket of our own on a shared port: the kernel spreads connections over all that joined.

    One socket handed to several processes would be simpler, but whoever wakes first takes a whole burst
    (16 of 16 connections were seen).
    """
    try:
        return _bind(host, port, shared=True)
    except OSError as error:
        raise PortTaken(_remedy(host, port, error)) from error


def _bind(host: str, port: int, *, shared: bool = False, listening: bool = True) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(address)
        if listening:
            taken.listen(BACKLOG)
        taken.setblocking(False)
    except OSError:
        taken.close()
        raise
    return taken


def _remedy(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = processes.port_holder(port)
        if "server.cli" in holder:
            holder = f"another Kami: {holder}"
        return (
            f"Port {port} on {host} is taken{f' by {holder}' if holder else ''}.\n"
            f"Stop it, or choose another port: make run PORT={_free_after(host, port)}"
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs root. Choose a port above 1023: make run PORT=8000"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"KAMI_HOST={host} is no address of this machine. Try 127.0.0.1, or 0.0.0.0 for all."
    return f"Port {port} on {host} cannot be opened: {error}"


def _free_after(host: str, port: int) -> int:
    try:
        with take_near(host, port + 1000 if port < 64000 else port - 1000) as found:
            return int(found.getsockname()[1])
    except PortTaken:
        return 9000
