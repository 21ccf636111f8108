"""A strict supplier to test against: it checks what docs/guides/supplier.md demands, and misbehaves on request.

It shares no code with the adapter.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

SECRET = b"supplier-secret-of-24-bytes!"


@dataclass
class Simulator:
    """Orders by reference; `mood` is how the next answers come: ok, pending, and what can go wrong."""

    orders: dict[str, dict[str, object]] = field(default_factory=dict)
    nonces: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    mood: str = "ok"
    url: str = ""
    _made: int = 0

    async def order(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if (refusal := self._check(request, raw)) is not None:
            return refusal
        self.calls.append("order")
        asked = json.loads(raw)
        assert asked.keys() == {"reference", "sku", "quantity"}
        assert isinstance(asked["quantity"], int)
        assert asked["quantity"] > 0
        if self.mood == "down":
            return web.Response(status=503, text="maintenance")
        if self.mood == "lost":
            await asyncio.sleep(5)
        if asked["sku"] == "unknown":
            return self._signed(request, 422, {"code": "sku_unknown", "message": "no such\x00 sku"})
        known = self.orders.get(asked["reference"])
        if known is None:
            known = self._buy(asked["reference"], asked["quantity"])
        if self.mood == "bought_then_lost":
            await asyncio.sleep(5)
        return await self._say(request, known)

    async def query(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._check(request, b"")) is not None:
            return refusal
        self.calls.append("query")
        known = self.orders.get(request.match_info["reference"])
        if known is None:
            return self._signed(request, 404, {"code": "not_found", "message": ""})
        return await self._say(request, known)

    def finish(self) -> None:
        """Whatever was pending is done now."""
        for reference, known in self.orders.items():
            if known["state"] == "pending":
                count = known.pop("quantity")
                assert isinstance(count, int)
                self.orders[reference] = self._done(reference, count)
        self.mood = "ok"

    def _buy(self, reference: str, quantity: int) -> dict[str, object]:
        if self.mood == "pending":
            made: dict[str, object] = {
                "reference": reference,
                "state": "pending",
                "quantity": quantity,
            }
        else:
            made = self._done(reference, quantity)
        self.orders[reference] = made
        return made

    def _done(self, reference: str, quantity: int) -> dict[str, object]:
        codes = []
        for _ in range(quantity):
            self._made += 1
            codes.append(f"SUP-{self._made:06d}")
        cost = {"value": f"{quantity * 2}.50", "currency": "USD"}
        return {"reference": reference, "state": "done", "codes": codes, "cost": cost}

    def _check(self, request: web.Request, raw: bytes) -> web.Response | None:
        stamp, nonce = request.headers["Kami-Timestamp"], request.headers["Kami-Nonce"]
        base = f"{stamp}.{nonce}.{request.method}.{request.path}.".encode()
        right = _sign("request", base + raw)
        if not hmac.compare_digest(right, request.headers["Kami-Signature"]):
            return web.Response(status=401)
        if abs(time.time() - int(stamp)) > 300 or nonce in self.nonces:
            return web.Response(status=401)
        self.nonces.add(nonce)
        return None

    async def _say(self, request: web.Request, known: dict[str, object]) -> web.StreamResponse:
        shown = {key: value for key, value in known.items() if key != "quantity"}
        codes = shown.get("codes")
        if self.mood == "html":
            return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
        if self.mood == "empty":
            return self._signed(request, 200, None)
        if self.mood == "unsigned":
            return web.json_response(shown)
        if self.mood == "few" and isinstance(codes, list):
            shown = {**shown, "codes": codes[:-1]}
        if self.mood == "double" and isinstance(codes, list):
            shown = {**shown, "codes": [codes[0]] * len(codes)}
        if self.mood == "number" and isinstance(codes, list):
            shown = {**shown, "codes": list(range(len(codes)))}
        if self.mood == "other":
            shown = {**shown, "reference": "sup_other"}
        if self.mood == "extra":
            shown = {**shown, "discount": "1"}
        if self.mood == "cost":
            shown = {**shown, "cost": {"value": "1e400", "currency": "USD"}}
        if self.mood == "cut":
            response = self._signed(request, 200, shown)
            assert isinstance(response.body, bytes)
            return web.Response(body=response.body[:-5], headers=dict(response.headers))
        if self.mood == "huge":
            return web.Response(body=b"[" * 3_000_000)
        return self._signed(request, 200, shown)

    def _signed(
        self, request: web.Request, status: int, body: dict[str, object] | None
    ) -> web.Response:
        raw = b"" if body is None else json.dumps(body).encode()
        base = f"{request.headers['Kami-Signature']}.{status}.".encode()
        return web.Response(
            status=status,
            body=raw,
            headers={"Kami-Signature": _sign("response", base + raw)},
            content_type="application/json",
        )


def _sign(direction: str, message: bytes) -> str:
    key = hmac.new(SECRET, b"kami-supplier/v1/" + direction.encode(), hashlib.sha256).digest()
    return "v1=" + hmac.new(key, message, hashlib.sha256).hexdigest()


@asynccontextmanager
async def simulator() -> AsyncIterator[Simulator]:
    """A supplier on a free port of this machine."""
    made = Simulator()
    app = web.Application()
    app.router.add_post("/v1/orders", made.order)
    app.router.add_get("/v1/orders/{reference}", made.query)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = runner.addresses[0][0] and f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
