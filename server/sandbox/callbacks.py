"""The provider's courier: signed callbacks, repeated until the success word comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache

import aiohttp
import structlog
from yarl import URL

from server.sandbox import wire
from server.sandbox.book import Book, Callback

SUCCESS_WORD = b"success"
# Seconds before each try; after the last one the callback is given up and stays in the book.
RETRY_S = (0.0, 1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0)
IN_FLIGHT_MAX = 64
TIMEOUT_S = 10.0
ANSWER_MAX = 64
FLUSH_S = 0.25

log = structlog.get_logger(__name__)
_url = lru_cache(maxsize=1024)(URL)


class Courier:
    """Delivers callbacks over one pool of kept connections; open it inside the running loop."""

    def __init__(
        self,
        book: Book,
        keys: wire.Keys,
        now: Callable[[], float],
        retry_s: tuple[float, ...] = RETRY_S,
    ) -> None:
        self._book, self._keys, self._now, self._retry_s = book, keys, now, retry_s
        self._loop = asyncio.get_running_loop()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=IN_FLIGHT_MAX, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
        )
        self._open = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._tries: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._arrived: dict[str, asyncio.Event] = {}
        self._flush: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """Stop trying; what is owed stays in the book for the next start."""
        for timer in [*self._timers.values(), *([self._flush] if self._flush else [])]:
            timer.cancel()
        for task in self._tries:
            task.cancel()
        await asyncio.gather(*self._tries, return_exceptions=True)
        await self._http.close()

    def send(self, callback: Callback, delay_s: float | None = None) -> None:
        """Deliver after `delay_s`, by default as RETRY_S says; `copies` go in parallel."""
        self._timers.pop(callback.event_id, None)
        delay_s = self._retry_s[callback.tries] if delay_s is None else delay_s
        if delay_s > 0:
            self._timers[callback.event_id] = self._loop.call_later(
                delay_s, self.send, callback, 0.0
            )
            return
        task = self._loop.create_task(self._deliver(callback))
        self._tries.add(task)
        task.add_done_callback(self._tries.discard)

    async def acknowledged(self, event_id: str, timeout_s: float) -> bool:
        """Wait until the success word for `event_id` came; call it in the step that sends."""
        arrived = self._arrived[event_id] = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await arrived.wait()
            return True
        except TimeoutError:
            return False
        finally:
            del self._arrived[event_id]

    async def _deliver(self, callback: Callback) -> None:
        copies = [self._try(callback) for _ in range(callback.copies)]
        results = [await copies[0]] if len(copies) == 1 else await asyncio.gather(*copies)
        if any(results):
            self._book.delivered(callback.event_id)
            if self._flush is None:
                self._flush = self._loop.call_later(FLUSH_S, self._write)
            if callback.event_id in self._arrived:
                self._arrived[callback.event_id].set()
            return
        callback.tries += 1
        if callback.tries >= len(self._retry_s):
            self._book.postponed(callback, None)
            log.warning("sandbox.callback_given_up", event_id=callback.event_id, url=callback.url)
            return
        self._book.postponed(callback, self._now() + self._retry_s[callback.tries])
        self.send(callback)

    async def _try(self, callback: Callback) -> bool:
        body = callback.body.encode()
        async with self._open:
            headers = wire.callback_headers(
                self._keys, callback.account, callback.event_id, body, self._now()
            )
            try:
                async with self._http.post(
                    _url(callback.url), data=body, headers=headers, allow_redirects=False
                ) as response:
                    word = await response.content.read(ANSWER_MAX)
                    while len(word) < ANSWER_MAX and not response.content.at_eof():
                        word += await response.content.read(ANSWER_MAX)
                    return response.status == 200 and word == SUCCESS_WORD
            except (aiohttp.ClientError, OSError, ValueError):  # TimeoutError is an OSError
                return False

    def _write(self) -> None:
        self._flush = None
        self._book.flush()
