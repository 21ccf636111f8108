"""The toy contract behind a real server: `python -m tests.server.graphql_live PORT [production]`."""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID

import uvicorn
from starlette.types import Receive, Scope, Send

from domain.identity import Role, Viewer
from server import sockets
from server.graphql import limits
from server.graphql.view import GraphQL
from server.sockets import Http, Socket
from tests.server import graphql_toy

MEMBER = "kami_s_member"
SOON_OVER = "kami_s_soon_over"  # good for the first three times it is looked at

SLOW_S, CUT_AFTER_S = 1.0, 2.0
HEAD_S, BODY_S = 1.0, 3.0
IDLE_S, STREAMS_MAX = 2.0, 150

_member = Viewer(
    account_id=UUID(int=1),
    email="member@demo.test",
    locale="ja",
    session_id=UUID(int=2),
    expires_at=datetime.now(UTC) + timedelta(hours=1),
    roles={UUID(int=3): Role.OWNER},
)
_looks = 0


async def authenticate(token: str) -> Viewer | None:
    """The two tokens of this world."""
    global _looks
    if token == SOON_OVER:
        _looks += 1
        return _member if _looks <= 3 else None
    return dataclasses.replace(_member) if token == MEMBER else None


class Application:
    """The door with a lifespan that does nothing."""

    def __init__(self, *, is_open: bool) -> None:
        self.graphql = GraphQL(
            graphql_toy.schema,
            is_open=is_open,
            authenticate=authenticate,
            origins=["https://shop.example"],
            streams_max=STREAMS_MAX,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif self.graphql.serves(scope):
            await self.graphql(scope, receive, send)


def main() -> None:
    """Serve until a signal; what takes a while takes less of it here."""
    limits.SOCKET_INIT_TIMEOUT_S = 0.5
    limits.SLOW_CLIENT_S = SLOW_S
    limits.HEAD_TIMEOUT_S = HEAD_S
    limits.BODY_TIMEOUT_S = BODY_S
    limits.HEARTBEAT_S = 0.3
    limits.SOCKET_IDLE_S = IDLE_S
    sockets.CUT_AFTER_S = CUT_AFTER_S
    uvicorn.run(
        Application(is_open="production" not in sys.argv[2:]),
        port=int(sys.argv[1]),
        http=Http,
        ws=Socket,
        ws_max_size=65_536,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
