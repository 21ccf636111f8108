"""A supplier behind signed HTTP calls: bounded, strict, and never bought from twice.

The wire format is docs/guides/supplier.md. Requests and answers carry an HMAC-SHA256, each direction under a
key of its own; an answer is bound to the request it answers. What is not proved is UNKNOWN.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from domain.catalogue.ports import SupplyAnswer, SupplyRequest, SupplyState
from domain.core import clock
from domain.core.errors import DomainError
from domain.core.money import Money
from plugins import strict
from plugins.calls import Calls
from plugins.strict import NAME, Unproven

BODY_MAX = 1024 * 1024
CODE_MAX = 4_000
SECRET_MIN = 24
# This many calls in a row without a proved answer, and the supplier is left alone for a while: what is slow
# or down there must not fill the workers here (I01).
FAILURES_MAX = 5
OPEN_S = 30.0

_STATES = {
    "done": SupplyState.DONE,
    "pending": SupplyState.PENDING,
    "refused": SupplyState.REFUSED,
}
_FIELDS = {"reference", "state", "codes", "cost", "code", "message"}


@dataclass
class _Breaker:
    """Counts failures in a row; while it is open nothing is sent, then one call may try."""

    failures: int = 0
    open_until: float = 0.0

    def refuses(self) -> bool:
        return clock.monotonic() < self.open_until

    def succeeded(self) -> None:
        self.failures, self.open_until = 0, 0.0

    def failed(self) -> None:
        self.failures += 1
        if self.failures >= FAILURES_MAX:
            self.open_until = clock.monotonic() + OPEN_S


@dataclass(frozen=True)
class HttpSupplier:
    """The supplier `name` at `base_url`. Errors: ValueError for a missing or short secret."""

    name: str
    base_url: str
    secret: bytes = field(repr=False)
    timeout_s: float = 10.0
    connections_max: int = 4  # a bulkhead: one slow supplier holds at most so many of our calls

    _breaker: _Breaker = field(default_factory=_Breaker, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.secret) < SECRET_MIN:
            raise ValueError(
                f"the secret of supplier {self.name} is missing or shorter than {SECRET_MIN} bytes; make one: "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )

    @cached_property
    def _calls(self) -> Calls:
        return Calls(self.base_url, self.timeout_s, self.connections_max, body_max=BODY_MAX)

    async def order(self, request: SupplyRequest) -> SupplyAnswer:
        """Buy under our reference. UNKNOWN whenever the answer is missing or unproved."""
        asked = {
            "reference": request.reference,
            "sku": request.sku,
            "quantity": request.quantity,
        }
        return await self._ask("POST", "/v1/orders", asked, request.reference, request.quantity)

    async def query(self, reference: str, *, quantity: int) -> SupplyAnswer:
        """Where an order stands; NOT_FOUND only on the signed word that it never came."""
        assert NAME.fullmatch(reference), reference
        return await self._ask("GET", f"/v1/orders/{reference}", None, reference, quantity)

    async def close(self) -> None:
        """Close the running loop's connections; the next call opens new ones."""
        await self._calls.close()

    async def _ask(
        self,
        method: str,
        path: str,
        asked: Mapping[str, object] | None,
        reference: str,
        quantity: int,
    ) -> SupplyAnswer:
        if self._breaker.refuses():
            return SupplyAnswer(SupplyState.UNAVAILABLE, raw_code="breaker_open")
        try:
            status, got = await self._call(method, path, asked)
            answer = _answer(status, got, reference, quantity, is_query=method == "GET")
        except Unproven as lost:
            self._breaker.failed()
            return SupplyAnswer(SupplyState.UNKNOWN, raw_code=lost.reason)
        self._breaker.succeeded()
        return answer

    async def _call(
        self, method: str, path: str, asked: Mapping[str, object] | None
    ) -> tuple[int, dict[str, Any]]:
        """(status, fields) of an answer signed for this very request. Errors: Unproven."""
        body = b"" if asked is None else json.dumps(asked, separators=(",", ":")).encode()
        timestamp, nonce = str(int(clock.now().timestamp())), secrets.token_hex(16)
        signature = self._sign("request", f"{timestamp}.{nonce}.{method}.{path}.".encode(), body)
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "Kami-Timestamp": timestamp,
            "Kami-Nonce": nonce,
            "Kami-Signature": signature,
        }
        status, claimed, got = await self._calls.exchange(
            method, path, headers, body, proof="Kami-Signature"
        )
        proof = self._sign("response", f"{signature}.{status}.".encode(), got)
        if not hmac.compare_digest(proof.encode(), claimed.encode("utf-8", "backslashreplace")):
            raise Unproven("answer_signature" if status < 400 else f"http_{status}")
        if status >= 500:
            raise Unproven(f"http_{status}")
        return status, _object(got)

    def _sign(self, direction: str, base: bytes, body: bytes) -> str:
        key = hmac.digest(self.secret, f"kami-supplier/v1/{direction}".encode(), "sha256")
        return "v1=" + hmac.digest(key, base + body, "sha256").hex()


def _object(raw: bytes) -> dict[str, Any]:
    value = strict.json_object(raw)
    if not value.keys() <= _FIELDS:
        raise Unproven("fields")
    return value


def _answer(
    status: int, got: Mapping[str, Any], reference: str, quantity: int, *, is_query: bool
) -> SupplyAnswer:
    code, message = _text(got, "code"), _text(got, "message")
    if status >= 400:
        if is_query and (status, code) == (404, "not_found"):
            return SupplyAnswer(SupplyState.NOT_FOUND, raw_code=code)
        if status in (400, 404, 410, 422) and code and not is_query:
            return SupplyAnswer(SupplyState.REFUSED, raw_code=code, raw_message=message)
        raise Unproven(f"http_{status}")
    state = _STATES.get(_text(got, "state"))
    if status != 200 or state is None or got.get("reference") != reference:
        raise Unproven("fields")
    codes = _codes(got.get("codes", []))
    # Goods are complete and come with `done` only: nothing is delivered in part, twice or by accident (I08).
    if len(codes) != (quantity if state is SupplyState.DONE else 0) or len(set(codes)) < len(codes):
        raise Unproven("codes")
    return SupplyAnswer(state, codes, _cost(got.get("cost")), code, message)


def _text(got: Mapping[str, Any], key: str) -> str:
    value = got.get(key, "")
    if not isinstance(value, str):
        raise Unproven("fields")
    return "".join(char for char in value[:120] if char.isprintable())


def _codes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Unproven("codes")
    for code in value:
        if not isinstance(code, str) or not 0 < len(code) <= CODE_MAX or code != code.strip():
            raise Unproven("codes")
        if not code.isprintable():
            raise Unproven("codes")
    return tuple(value)


def _cost(value: object) -> Money | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"value", "currency"}:
        raise Unproven("cost")
    text, currency = value["value"], value["currency"]
    if not isinstance(text, str) or not isinstance(currency, str):
        raise Unproven("cost")
    try:
        return Money.parse(text, currency)
    except DomainError:
        raise Unproven("cost") from None
