"""The provider that is a person: nothing can be charged, asked or heard here, only written down by two people.

Money put in by hand (`domain/checkout/manual.py`) lies outside of every provider we can talk to; so does its way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domain.payments.ports import (
    CallbackRefused,
    ChargeAnswer,
    ChargeRequest,
    ChargeState,
    Fact,
    Method,
    RefundAnswer,
    RefundRequest,
    RefundState,
)

BY_HAND = "by_hand"


@dataclass(frozen=True, slots=True)
class Manual:
    """Answers so that nothing happens by itself: a refund fails and becomes a person's, its ask is reversed."""

    name: str = "manual"
    methods: tuple[Method, ...] = ()
    success_word: bytes = b""
    failure_word: bytes = b""

    async def charge(self, request: ChargeRequest) -> ChargeAnswer:
        """Never takes anything."""
        return ChargeAnswer(ChargeState.FAILED, raw_code=BY_HAND)

    async def query(self, *, account: str, reference: str) -> ChargeAnswer:
        """Knows nothing: what is to be known was written by people."""
        return ChargeAnswer(ChargeState.UNKNOWN, raw_code=BY_HAND)

    async def void(self, *, account: str, reference: str) -> ChargeAnswer:
        """Has nothing that could be cancelled."""
        return ChargeAnswer(ChargeState.UNKNOWN, raw_code=BY_HAND)

    async def refund(self, request: RefundRequest) -> RefundAnswer:
        """Cannot send money: somebody has to, where it came from."""
        return RefundAnswer(RefundState.FAILED, raw_code=BY_HAND)

    async def query_refund(self, *, account: str, reference: str) -> RefundAnswer:
        """As `refund`: nothing was ever sent."""
        return RefundAnswer(RefundState.FAILED, raw_code=BY_HAND)

    async def forget(self, *, account: str, token: str) -> bool:
        """Keeps no saved methods."""
        return True

    def verify(self, *, account: str, headers: Mapping[str, str], body: bytes) -> list[Fact]:
        """No message from outside is ever its word. Errors: CallbackRefused, always."""
        raise CallbackRefused(status=401, reason=BY_HAND)
