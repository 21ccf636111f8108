"""What the sandbox provider costs: CPU of its process per payment (create + confirm + callback).

python -m bench.sandbox [payments]        goal: 1.5 ms
"""

from __future__ import annotations

import asyncio
import base64
import os
import platform
import secrets
import socket
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

import psutil  # type: ignore[import-untyped,unused-ignore]
from starlette.types import Receive, Scope, Send

from domain.core.money import Money
from domain.payments.ports import ChargeRequest
from plugins.payment.sandbox import Sandbox

GOAL_MS = 1.5
PARALLEL = 16
WARM_UP = 300


class Shop:
    """Counts callbacks, answers the success word, and says when the last one expected has come."""

    def __init__(self) -> None:
        self.count, self.expected, self.complete = 0, 0, asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, answer."""
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        self.count += 1
        if self.count == self.expected:
            self.complete.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"success"})


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def buy(provider: Sandbox, shop: Shop, notify_url: str, count: int) -> None:
    """`count` payments, PARALLEL at a time, until every callback has come."""
    expires_at, left = datetime.now(UTC) + timedelta(minutes=15), iter(range(count))
    shop.count, shop.expected = 0, count
    shop.complete.clear()

    async def lane() -> None:
        for _ in left:
            answer = await provider.charge(
                ChargeRequest(
                    reference=f"pay_{secrets.token_hex(13)}",
                    account="demo",
                    method="sandbox",
                    amount=Money(1990, "USD"),
                    order_number="K-1",
                    return_url="http://127.0.0.1/orders/1",
                    notify_url=notify_url,
                    expires_at=expires_at,
                )
            )
            assert answer.provider_ref, answer

    await asyncio.gather(*(lane() for _ in range(PARALLEL)))
    async with asyncio.timeout(30):
        await shop.complete.wait()


async def measure(count: int) -> float:
    """Milliseconds of the provider's CPU per payment."""
    import uvicorn

    secret, port, shop_port, shop = os.urandom(32), free_port(), free_port(), Shop()
    with tempfile.TemporaryDirectory(prefix="kami-bench-sandbox-") as folder:
        environment = {
            **os.environ,
            "KAMI_ENV": "test",
            "KAMI_DATA_DIR": folder,
            "KAMI_SANDBOX_URL": f"http://127.0.0.1:{port}",
            "KAMI_SANDBOX_SECRET": base64.urlsafe_b64encode(secret).decode(),
            "KAMI_SANDBOX_AUTOCONFIRM_MS": "1",
        }
        command = ["-m", "uvicorn", "--factory", "server.sandbox.app:create_app", "--port"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, str(port), "--no-access-log", "--log-level=warning",
            env=environment,
        )  # fmt: skip
        config = uvicorn.Config(shop, port=shop_port, ws="none", lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        provider = Sandbox(base_url=f"http://127.0.0.1:{port}", secret=secret)
        try:
            while (await provider.query(account="demo", reference="none")).raw_code != "not_found":
                assert process.returncode is None
                await asyncio.sleep(0.05)
            notify_url = f"http://127.0.0.1:{shop_port}/hooks/sandbox/demo"
            await buy(provider, shop, notify_url, WARM_UP)
            used, started = psutil.Process(process.pid).cpu_times(), time.monotonic()
            await buy(provider, shop, notify_url, count)
            took, now = time.monotonic() - started, psutil.Process(process.pid).cpu_times()
            memory = psutil.Process(process.pid).memory_info().rss / 2**20
            cpu: float = now.user + now.system - used.user - used.system
            print(f"{count / took:,.0f} payments/s, provider's memory {memory:.0f} MiB (RSS)")
            return cpu * 1000 / count
        finally:
            await provider.close()
            process.terminate()
            await process.wait()
            server.should_exit = True
            await serving


def main() -> int:
    """Print the cost; 1 when the goal is missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    cost_ms = asyncio.run(measure(count))
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(f"create + confirm + callback: {cost_ms:.2f} ms CPU of the provider (goal {GOAL_MS})")
    return 0 if cost_ms <= GOAL_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
