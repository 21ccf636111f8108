"""Payment providers with their simulators: what the payment suite runs against.

A new provider adds its two classes here and a line to PROOFS and WORLDS, and passes all of
test_payment_callbacks.py (proof, no network), test_payment_suite.py (over real HTTP) and, when it can save a
method, test_payment_saved.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from bench.provider import sign, sign_body
from domain.core.money import Money
from domain.payments.ports import ChargeRequest, Provider
from plugins.payment.sandbox import Sandbox
from tests.sandbox import (
    ACCOUNT,
    SECRET,
    RunningSandbox,
    Shop,
    charge_request,
    running_sandbox,
    running_shop,
    serving,
)

PRICE = Money(1990, "USD")


@dataclass(frozen=True)
class Reply:
    """What a misbehaving provider answers: `is_signed` with its real key, after `delay_s`."""

    status: int = 200
    body: bytes = b""
    is_signed: bool = True
    delay_s: float = 0.0
    repeat: int = 1
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Proofs(Protocol):
    """A provider's adapter and everything its callbacks are made of."""

    provider: Provider
    account: str
    other_account: str
    secret_setting: str
    signature: str  # the name of its header
    signed_headers: tuple[str, ...]  # every header a flipped byte of which must be noticed
    needed_headers: tuple[str, ...]  # those without which a callback cannot be read

    def statement(self, **changes: Any) -> dict[str, Any]:
        """A callback's JSON: 19.90 USD captured for `pay_1`, unless changed."""
        ...

    def signed(self, body: bytes, *, account: str = ...) -> dict[str, str]:
        """The headers with which the real provider would send `body` now, in lower case."""
        ...

    def own_request(self) -> tuple[dict[str, str], bytes]:
        """A request of ours, signed by us, to be reflected at us as if it were a callback."""
        ...

    def without_secret(self) -> Provider:
        """The adapter with an empty secret. Errors: whatever the adapter raises."""
        ...


class World(Protocol):
    """A provider's adapter, its simulator and a shop, connected by real HTTP."""

    provider: Provider
    shop: Shop
    account: str

    def request(self, amount: Money = ..., **options: Any) -> ChargeRequest:
        """A charge whose callbacks reach the shop."""
        ...

    async def confirm(self, reference: str) -> None:
        """The buyer pays."""
        ...

    async def fail_refund(self, reference: str) -> None:
        """A refund that had succeeded comes back."""
        ...

    def captured(self, reference: str, **changes: Any) -> bytes:
        """The provider's answer to a query of a captured payment, right unless changed."""
        ...

    def misbehaving(self, reply: Reply) -> AbstractAsyncContextManager[Provider]:
        """The adapter before a provider that answers every request with `reply`."""
        ...

    def unreachable(self) -> AbstractAsyncContextManager[Provider]:
        """The adapter before nobody."""
        ...


class SandboxProofs:
    """The sandbox's callbacks."""

    account = ACCOUNT
    other_account = "other"
    secret_setting = "KAMI_SANDBOX_SECRET"
    signature = "sandbox-signature"
    signed_headers: tuple[str, ...] = ("sandbox-signature", "sandbox-timestamp", "sandbox-event-id")
    needed_headers: tuple[str, ...] = ("content-type", "sandbox-timestamp", "sandbox-event-id")

    def __init__(self) -> None:
        self.provider: Provider = Sandbox(base_url="http://127.0.0.1:9", secret=SECRET)

    def statement(self, **changes: Any) -> dict[str, Any]:
        """As in docs/guides/sandbox.md."""
        return {
            "event_id": "evt_1",
            "type": "payment",
            "account": self.account,
            "reference": "pay_1",
            "payment_id": "sbx_1",
            "status": "captured",
            "amount": {"value": "19.90", "currency": "USD"},
            "occurred_at": "2026-11-22T21:30:00.125Z",
        } | changes

    def signed(self, body: bytes, *, account: str = ACCOUNT) -> dict[str, str]:
        """With the callback key of `account`, event id `evt_1`."""
        return sign_body(SECRET, account, "evt_1", body)

    def own_request(self) -> tuple[dict[str, str], bytes]:
        """A create request that reads like a callback, signed with the request key."""
        body = json.dumps(self.statement()).encode()
        headers = self.signed(body)
        parts = (headers["sandbox-timestamp"], headers["sandbox-event-id"])
        return headers | {self.signature: sign(SECRET, "request", self.account, parts, body)}, body

    def without_secret(self) -> Provider:
        """Refused."""
        return Sandbox(base_url="http://127.0.0.1:9", secret=b"")


@dataclass
class SandboxWorld:
    """The sandbox without autoconfirm: nothing is paid before the buyer clicks."""

    sandbox: RunningSandbox
    shop: Shop
    provider: Provider
    account: str = ACCOUNT

    def request(self, amount: Money = PRICE, **options: Any) -> ChargeRequest:
        """A charge as payments would ask for it."""
        return charge_request(self.shop.url, amount, **options)

    async def confirm(self, reference: str) -> None:
        """The buyer presses pay on the hosted page."""
        page_url = (await self.sandbox.api("GET", f"/v1/payments/{reference}", None))["page_url"]
        assert (await self.sandbox.click(page_url))[0] == 303

    async def fail_refund(self, reference: str) -> None:
        """The provider's test switch."""
        await self.sandbox.do_refund(reference, "fail")

    def captured(self, reference: str, **changes: Any) -> bytes:
        """19.90 USD, as in docs/guides/sandbox.md."""
        taken = {"value": "19.90", "currency": "USD"}
        answer = {
            "account": self.account,
            "reference": reference,
            "payment_id": "sbx_1",
            "status": "captured",
            "amount": taken,
            "captured": taken,
        }
        return encode(answer | changes)

    @contextlib.asynccontextmanager
    async def misbehaving(self, reply: Reply) -> AsyncIterator[Provider]:
        """Signed replies are bound to the request, as the real provider's are."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            given = {name.decode(): value.decode() for name, value in scope["headers"]}
            await asyncio.sleep(reply.delay_s)
            parts = (given["sandbox-signature"], str(reply.status))
            proof = sign(SECRET, "response", given["sandbox-account"], parts, reply.body)
            headers = [*reply.headers]
            if reply.is_signed:
                headers.append((b"sandbox-signature", proof.encode()))
            start = {"type": "http.response.start", "status": reply.status, "headers": headers}
            await send(start)
            for left in reversed(range(reply.repeat)):
                part = {"type": "http.response.body", "body": reply.body, "more_body": left > 0}
                await send(part)

        async with serving(app, patience_s=0) as url:
            adapter = Sandbox(base_url=url, secret=SECRET, timeout_s=0.8)
            try:
                yield adapter
            finally:
                await adapter.close()

    @contextlib.asynccontextmanager
    async def unreachable(self) -> AsyncIterator[Provider]:
        """Port 9 (discard) of this machine, where nothing listens."""
        adapter = Sandbox(base_url="http://127.0.0.1:9", secret=SECRET)
        try:
            yield adapter
        finally:
            await adapter.close()


@contextlib.asynccontextmanager
async def sandbox_world(folder: Path) -> AsyncIterator[World]:
    """Adapter, provider and shop on free ports."""
    async with running_shop() as shop, running_sandbox(folder) as sandbox:
        yield SandboxWorld(sandbox, shop, sandbox.adapter(timeout_s=1.0))


PROOFS: dict[str, Callable[[], Proofs]] = {"sandbox": SandboxProofs}
WORLDS: dict[str, Callable[[Path], AbstractAsyncContextManager[World]]] = {"sandbox": sandbox_world}


def reference() -> str:
    """A reference that no provider has seen."""
    return f"pay_{secrets.token_hex(13)}"


def encode(statement: dict[str, Any]) -> bytes:
    """A callback's bytes."""
    return json.dumps(statement).encode()
