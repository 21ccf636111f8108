"""Connections to where merchants point: the name is resolved once, and only checked addresses are connected to.

`Resolver` refuses a name as soon as one of its addresses is not the public internet; `connector()` looks at the very
address again in the moment it makes the socket. Nothing between check and connect can change it (DNS rebinding), and
an address spelled in the URL takes the same gate.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from domain.core import addresses

# A name server that hangs holds a thread; a pool of its own, so that it holds up no other look-up of this process.
RESOLVE_THREADS = 32
ADDRESSES_MAX = 16


class AddressRefused(OSError):
    """The name leads to an address that must not be called."""


class Resolver(AbstractResolver):
    """The system's resolver behind the guard; `look_up` replaces it in tests."""

    def __init__(self, *, is_open: bool, look_up: Any = socket.getaddrinfo) -> None:
        self._is_open = is_open
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(RESOLVE_THREADS, thread_name_prefix="outgoing")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of `host`. Errors: AddressRefused when one of them is refused; OSError."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, self._look_up, host, port, family, socket.SOCK_STREAM
        )
        results = []
        for kind, _, proto, _, place in found[:ADDRESSES_MAX]:
            check(place[0], is_open=self._is_open)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=place[0],
                    port=port,
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        if not results:
            raise OSError(f"{host} has no address")
        return results

    async def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def check(address: str, *, is_open: bool) -> None:
    """Errors: AddressRefused for an address that is not the public internet."""
    try:
        is_public = addresses.is_public(ipaddress.ip_address(address), is_open=is_open)
    except ValueError:
        is_public = False
    if not is_public:
        raise AddressRefused(f"{address} is not the public internet")


def connector(
    resolver: Resolver, *, is_open: bool, context: ssl.SSLContext | None = None, limit: int = 0
) -> aiohttp.TCPConnector:
    """A guarded connector; whoever made `resolver` closes it. TLS is verified, by `context` or the system's roots."""

    def make_socket(info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, place = info
        check(place[0], is_open=is_open)
        made = socket.socket(family=family, type=kind, proto=proto)
        made.setblocking(False)
        return made

    return aiohttp.TCPConnector(
        resolver=resolver,
        use_dns_cache=False,
        socket_factory=make_socket,
        ssl=context or True,
        limit=limit,
        keepalive_timeout=15,
    )
