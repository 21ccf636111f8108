"""The sandbox provider and a shop that receives callbacks, both inside the test's own loop.

async with running_sandbox(tmp_path) as sandbox, running_shop() as shop:
    adapter = sandbox.adapter()
    ...
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from bench.provider import sign
from domain.core import clock
from domain.core.money import Money
from domain.payments.ports import ChargeRequest, Redirect
from plugins.payment.sandbox import Sandbox as Adapter
from server.sandbox import SandboxConfig, create_app

SECRET = bytes(range(32))
ACCOUNT = "demo"


class _Server(uvicorn.Server):
    """Inside a test: stops at once when told to, and leaves the test runner's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(0.002)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


def free_socket() -> socket.socket:
    """A socket bound to a free port of 127.0.0.1: nobody else can take it meanwhile."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", 0))
    return taken


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, at: socket.socket | None = None, *, patience_s: int = 2
) -> AsyncIterator[str]:
    """Serve `app` in this loop at the address given; at the end requests have `patience_s` left."""
    listener = at or free_socket()
    config = uvicorn.Config(
        app,
        loop="none",
        ws="none",
        lifespan="auto",
        log_config=None,
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=patience_s,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.stop.set()
        await task
        listener.close()


@dataclass
class RunningSandbox:
    """A provider that runs at `url`; its insides are `app.state.sandbox`."""

    url: str
    secret: bytes
    app: Any
    _http: aiohttp.ClientSession
    _adapters: list[Adapter] = field(default_factory=list)

    def adapter(self, **options: Any) -> Adapter:
        """Kami's adapter for this provider; closed with it."""
        adapter = Adapter(base_url=self.url, secret=self.secret, **options)
        self._adapters.append(adapter)
        return adapter

    async def api(self, method: str, path: str, asked: object, account: str = ACCOUNT) -> Any:
        """Call the provider signed, as a shop would; the JSON answer."""
        body = b"" if asked is None else json.dumps(asked).encode()
        at, nonce = str(int(clock.now().timestamp())), secrets.token_hex(8)
        headers = {
            "Sandbox-Account": account,
            "Sandbox-Timestamp": at,
            "Sandbox-Nonce": nonce,
            "Sandbox-Signature": sign(
                self.secret, "request", account, (at, nonce, method, path), body
            ),
        }
        async with self._http.request(
            method, self.url + path, data=body, headers=headers
        ) as response:
            return await response.json(content_type=None)

    async def do(self, reference: str, what: str, account: str = ACCOUNT) -> Any:
        """`confirm`, `decline`, `capture`, `late` (after the expiry) or `repeat` a payment."""
        return await self.api("POST", f"/v1/test/payments/{reference}", {"do": what}, account)

    async def do_refund(self, reference: str, what: str, account: str = ACCOUNT) -> Any:
        """`succeed` or `fail` a refund, also a succeeded one."""
        return await self.api("POST", f"/v1/test/refunds/{reference}", {"do": what}, account)

    async def modes(self, account: str = ACCOUNT, **modes: object) -> Any:
        """Choose variants (server/sandbox/outcomes.py); what is not named is reset."""
        return await self.api("PUT", "/v1/test/modes", modes, account)

    async def click(self, page_url: str, button: str = "pay") -> tuple[int, str]:
        """Press "pay" or "decline" on the hosted page; (status, where it leads)."""
        async with self._http.post(f"{page_url}/{button}", allow_redirects=False) as response:
            return response.status, response.headers.get("Location", "")

    async def answer(self, challenge_url: str, code: str | None = None) -> tuple[int, str]:
        """Type a code on the challenge page (None: refuse); (status, where it leads)."""
        choice = "refuse" if code is None else "confirm"
        async with self._http.post(
            f"{challenge_url}/{choice}", data={"code": code or ""}, allow_redirects=False
        ) as response:
            return response.status, response.headers.get("Location", "")

    async def code(self, challenge_url: str) -> str:
        """The one-time code as the challenge page shows it."""
        _, _, text = await self.get(challenge_url)
        return text.partition("<code>")[2].partition("</code>")[0]

    async def get(self, url: str) -> tuple[int, dict[str, str], str]:
        """(status, headers in lower case, text) of a page."""
        async with self._http.get(url) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, headers, await response.text()


@contextlib.asynccontextmanager
async def running_sandbox(
    data_dir: Path,
    *,
    secret: bytes = SECRET,
    autoconfirm_ms: int = 0,
    hang_s: float = 20.0,
    retry_s: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4),
    now: Callable[[], float] = lambda: clock.now().timestamp(),
    at: socket.socket | None = None,
) -> AsyncIterator[RunningSandbox]:
    """Run the provider on a free port; it follows the tests' clock and retries fast."""
    listener = at or free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = SandboxConfig(
        data_dir=data_dir,
        secret=secret,
        url=url,
        autoconfirm_ms=autoconfirm_ms,
        hang_s=hang_s,
        retry_s=retry_s,
        now=now,
    )
    app = create_app(config)
    async with serving(app, listener), aiohttp.ClientSession() as http:
        running = RunningSandbox(url, secret, app, http)
        try:
            yield running
        finally:
            for adapter in running._adapters:
                await adapter.close()


@dataclass(frozen=True)
class Received:
    """One request that reached the shop; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def statement(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Shop:
    """A shop's callback address: keeps what comes, answers `script`, then the success word."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    script: deque[tuple[int, bytes, float]] = field(default_factory=deque)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the next (status, body, delay in seconds) of the script."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        async with self._came:
            self.received.append(Received(scope["path"], headers, body, time.monotonic()))
            self._came.notify_all()
        status, word, delay_s = self.script.popleft() if self.script else (200, b"success", 0.0)
        await asyncio.sleep(delay_s)
        start = {"type": "http.response.start", "status": status, "headers": []}
        if status in (301, 302, 307):
            start["headers"] = [(b"location", f"{self.url}/elsewhere".encode())]
        await send(start)
        await send({"type": "http.response.body", "body": word})

    async def wait(self, count: int = 1, timeout_s: float = 5.0) -> list[Received]:
        """Everything received, once there are `count`."""
        async with asyncio.timeout(timeout_s), self._came:
            await self._came.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def quiet(self, for_s: float = 0.3) -> list[Received]:
        """Everything received once `for_s` more have passed: shows what did not happen."""
        await asyncio.sleep(for_s)
        return self.received


@contextlib.asynccontextmanager
async def running_shop() -> AsyncIterator[Shop]:
    """A shop on a free port; callbacks go to `shop.url + "/hooks/sandbox/demo"`."""
    shop = Shop()
    async with serving(shop) as url:
        shop.url = url
        yield shop


def charge_request(
    shop_url: str,
    amount: Money = Money(1990, "USD"),  # noqa: B008
    *,
    account: str = ACCOUNT,
    reference: str = "",
    expires_in_s: float = 900,
    locale: str = "en",
    save: bool = False,
    token: str | None = None,
    must_authenticate: bool = False,
) -> ChargeRequest:
    """A charge as `payments` would ask for it."""
    return ChargeRequest(
        reference=reference or f"pay_{secrets.token_hex(13)}",
        account=account,
        method="sandbox",
        amount=amount,
        order_number="K-1001",
        return_url=f"{shop_url}/orders/ord_1?key=abc",
        notify_url=f"{shop_url}/hooks/sandbox/{account}",
        expires_at=clock.now() + timedelta(seconds=expires_in_s),
        locale=locale,
        save=save,
        token=token,
        must_authenticate=must_authenticate,
    )


async def opened(sandbox: RunningSandbox, shop: Shop, **options: Any) -> tuple[str, str]:
    """(reference, page) of a new payment."""
    request = charge_request(shop.url, **options)
    answer = await sandbox.adapter().charge(request)
    assert isinstance(answer.action, Redirect)
    return request.reference, answer.action.url
