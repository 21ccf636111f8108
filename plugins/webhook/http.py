"""Carries webhooks over HTTPS: guarded connections, no redirects, 15 seconds in all, answers cut at 64 KiB."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from yarl import URL

from domain.core import addresses, clock
from domain.core.addresses import UrlNotAllowed
from domain.webhooks.ports import Message, Reply
from plugins import outgoing
from plugins.calls import Sessions
from plugins.outgoing import AddressRefused

TIMEOUT_S = 15.0
ANSWER_MAX = 64 * 1024
TEXT_MAX = 2_000  # of the answer that is kept for the log
RETRY_AFTER_CODES = (429, 503)
CONNECTIONS_MAX = 512


@dataclass(frozen=True)
class HttpCarrier:
    """Posts messages. `is_open` is the development switch: loopback and http too."""

    is_open: bool = False
    timeout_s: float = TIMEOUT_S
    look_up: Any = socket.getaddrinfo
    context: ssl.SSLContext | None = None

    _sessions: Sessions = field(default_factory=Sessions, init=False, repr=False, compare=False)
    _resolvers: list[outgoing.Resolver] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    async def send(self, message: Message) -> Reply:
        """See Carrier. The status alone decides; the body is read for the log and no further than its bound."""
        began = clock.monotonic()

        def reply(code: int | None = None, error: str = "", **more: Any) -> Reply:
            return Reply(code, error, took_ms=int((clock.monotonic() - began) * 1000), **more)

        try:
            # Checked again in the moment of sending: the row may be older than the rule.
            url = addresses.target(message.url, is_open=self.is_open).url
        except UrlNotAllowed:
            return reply(error="url")
        kept: list[tuple[int, float | None]] = []
        text = bytearray()
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._post(URL(url, encoded=True), message, kept, text)
        except TimeoutError:
            if not kept:
                return reply(error="timeout")
        except aiohttp.ClientConnectorCertificateError:
            return reply(error="tls")
        except aiohttp.ClientSSLError:
            return reply(error="tls")
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                return reply(error="refused_address")
            is_dns = isinstance(error, aiohttp.ClientConnectorDNSError)
            return reply(error="dns" if is_dns else "connection")
        except (aiohttp.ClientError, OSError, ValueError):
            if not kept:
                return reply(error="broken")
        code, retry_after_s = kept[0]
        return reply(code, retry_after_s=retry_after_s, text=_readable(text))

    async def _post(
        self, url: URL, message: Message, kept: list[tuple[int, float | None]], text: bytearray
    ) -> None:
        async with self._session().post(
            url, data=message.body, headers=message.headers, allow_redirects=False
        ) as response:
            code = response.status
            asked = response.headers.get("Retry-After") if code in RETRY_AFTER_CODES else None
            kept.append((code, retry_after_s(asked)))
            size = 0
            async for chunk in response.content.iter_any():
                text += chunk[: TEXT_MAX * 4 - len(text)]
                size += len(chunk)
                if size > ANSWER_MAX:
                    response.close()  # the rest of a flood is not read, its connection not used again
                    return

    async def close(self) -> None:
        """Close the running loop's connections; the next call opens new ones."""
        await self._sessions.close()
        while self._resolvers:
            await self._resolvers.pop().close()

    def _session(self) -> aiohttp.ClientSession:
        def connector() -> aiohttp.TCPConnector:
            resolver = outgoing.Resolver(is_open=self.is_open, look_up=self.look_up)
            self._resolvers.append(resolver)
            return outgoing.connector(
                resolver, is_open=self.is_open, context=self.context, limit=CONNECTIONS_MAX
            )

        return self._sessions.of_loop(
            connector,
            read_bufsize=ANSWER_MAX,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )


def retry_after_s(text: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date (RFC 9110); None for anything else."""
    if text is None or not text.isascii():
        return None
    text = text.strip()
    if text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - clock.now()).total_seconds())


def _readable(raw: bytearray) -> str:
    """The beginning of a body as text that can be stored and shown: no NUL, no control characters but line breaks."""
    text = bytes(raw).decode("utf-8", "replace")[:TEXT_MAX]
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)
