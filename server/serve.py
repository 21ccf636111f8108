"""Run an ASGI application under uvicorn with bounds on everything a client can send or leave open."""

from __future__ import annotations

import gc
import socket

import uvicorn
from starlette.types import ASGIApp

from domain.core.settings import settings
from server import child, listen, running
from server.edge import HSTS
from server.sockets import Http, Socket

KEEP_ALIVE_S = 75  # longer than the balancers in front (60 s), so that they close first
STOP_S = 15
SUPERVISED_STOP_S = 10  # leaves the supervisor's fifteen seconds some room


class _Server(uvicorn.Server):
    """Says when it serves, and keeps the start-up objects out of the garbage collector's way."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            gc.collect()
            gc.freeze()
            gc.set_threshold(10_000, 20, 50)
            child.tell_ready()


def serve(application: ASGIApp, *, host: str, port: int, fd: int | None, shared: bool) -> int:
    """Serve `application` until a signal; the exit code.

    On the inherited socket `fd`, or on `host:port`, which `shared` processes join. Errors: PortTaken.

    Source of the bounds: PITFALLS of uvicorn (WebSocket frames, queue, compression, graceful stop).
    """
    config = uvicorn.Config(
        application,
        interface="asgi3",
        host=host,
        port=port,
        loop="uvloop",
        http=Http,
        ws=Socket,
        ws_max_size=65_536,
        ws_max_queue=32,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        ws_per_message_deflate=False,
        lifespan="on",
        backlog=2048,
        proxy_headers=bool(settings().trusted_proxies),
        forwarded_allow_ips=settings().trusted_proxies,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SUPERVISED_STOP_S if child.is_supervised() else STOP_S,
        server_header=False,
        headers=[] if settings().in_development else [HSTS],
        access_log=False,
        log_config=None,
    )
    config.load()
    running.wait_at_gate()
    server = _Server(config)
    if fd is not None:
        listener = socket.socket(fileno=fd)
    else:
        listener = listen.join(host, port) if shared else listen.take(host, port)
    server.run([listener])
    return 0 if server.started else 3
