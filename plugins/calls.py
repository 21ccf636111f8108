"""HTTP calls of an adapter to its provider: bounded in time, size and number, without redirects, cookies or guesses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from plugins import strict
from plugins.strict import Unproven

KEEPALIVE_S = 20


class Sessions:
    """One `aiohttp.ClientSession` for each event loop that calls."""

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = (
            WeakKeyDictionary()
        )

    def of_loop(
        self, connector: Callable[[], aiohttp.BaseConnector], **options: Any
    ) -> aiohttp.ClientSession:
        """The running loop's session; made with `connector` and `options` when there is none."""
        loop = asyncio.get_running_loop()
        session = self._by_loop.get(loop)
        if session is None or session.closed:
            session = self._by_loop[loop] = aiohttp.ClientSession(
                connector=connector(),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                **options,
            )
        return session

    async def close(self) -> None:
        """Close the running loop's connections; the next call opens new ones."""
        session = self._by_loop.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()


@dataclass
class Calls:
    """Calls to the provider at `base_url`, each with `timeout_s` for connect, wait for a connection and read together.

    A call is sent up to `tries` times when a reused connection closes under it: more than 1 only where a reference is
    taken once. `connections_max` is a bulkhead: one slow provider holds at most so many of our calls.
    """

    base_url: str
    timeout_s: float
    connections_max: int
    tries: int = 1
    body_max: int = strict.BODY_MAX
    _sessions: Sessions = field(default_factory=Sessions, init=False, repr=False)

    async def exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, *, proof: str
    ) -> tuple[int, str, bytes]:
        """(status, the header `proof` or "", body) as they came, nothing of it believed yet. Errors: Unproven."""
        url = URL(self.base_url.rstrip("/") + path, encoded=True)
        try:
            async with asyncio.timeout(self.timeout_s):
                for left in reversed(range(self.tries)):
                    try:
                        async with self._session().request(
                            method, url, data=body, headers=headers, allow_redirects=False
                        ) as response:
                            claimed = response.headers.get(proof, "")
                            got = await strict.body(response, at_most=self.body_max)
                            return response.status, claimed, got
                    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                        if not left:
                            raise
        except TimeoutError:
            raise Unproven("timeout") from None
        except aiohttp.ClientConnectorError:
            raise Unproven("unreachable") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise Unproven("broken_answer") from None
        raise AssertionError("the loop returns or raises")

    async def close(self) -> None:
        """Close the running loop's connections; the next call opens new ones."""
        await self._sessions.close()

    def _session(self) -> aiohttp.ClientSession:
        def connector() -> aiohttp.TCPConnector:
            return aiohttp.TCPConnector(limit=self.connections_max, keepalive_timeout=KEEPALIVE_S)

        return self._sessions.of_loop(connector, skip_auto_headers=("User-Agent",))
