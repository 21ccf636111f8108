"""A small SMTP server for tests: real sockets, remembers what it took, refuses what it is told
to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class SmtpServer:
    """`replies` overrides the answer to a command, by its start: {"RCPT TO:<gone@": "550 no"}.

    A reply of "" hangs, "close" hangs up.
    """

    replies: dict[str, str] = field(default_factory=dict)
    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    per_connection_max: int = 1_000

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipients: list[str] = []
        sender, taken = "", 0
        if not await self._say(writer, "CONNECT", "220 test ESMTP"):
            return
        while line := (await reader.readline()).decode("ascii").strip():
            verb = line.upper()
            answer = "250 ok"
            if verb.startswith("MAIL FROM"):
                sender, recipients = line[10:].partition(" ")[0].strip("<>"), []
                if taken >= self.per_connection_max:
                    answer = "close"
            elif verb.startswith("RCPT TO") and not self._override(line):
                recipients.append(line[8:].strip("<>"))
            elif verb == "DATA":
                answer = "354 go on"
            elif verb == "QUIT":
                answer = "221 bye"
            if not await self._say(writer, line, answer):
                return
            if verb == "DATA" and not self._override(line):
                body = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
                if not await self._say(writer, "END", "250 taken"):
                    return
                if not self._override("END"):
                    self.mails.append((sender, recipients, body))
                    taken += 1
            if verb == "QUIT":
                return

    def _override(self, line: str) -> str | None:
        return next(
            (reply for start, reply in self.replies.items() if line.startswith(start)), None
        )

    async def _say(self, writer: asyncio.StreamWriter, line: str, answer: str) -> bool:
        reply = self._override(line)
        answer = answer if reply is None else reply
        if answer == "close":
            return False
        if answer == "":
            await asyncio.sleep(60)
            return False
        writer.write(f"{answer}\r\n".encode())
        await writer.drain()
        return True


@asynccontextmanager
async def smtp_server(**facts: object) -> AsyncIterator[SmtpServer]:
    """A server on a free port of 127.0.0.1 for the length of the block."""
    one = SmtpServer(**facts)  # type: ignore[arg-type]
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(one.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
