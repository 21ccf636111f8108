"""The sandbox provider's adapter: signed requests out, proved callbacks in.

The wire format is docs/guides/sandbox.md; this file shares no code with the provider it talks to.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from domain.core import clock
from domain.core.money import CURRENCIES, Money
from domain.payments.ports import (
    CallbackRefused,
    ChargeAnswer,
    ChargeRequest,
    ChargeState,
    CredentialField,
    Fact,
    Method,
    MethodKind,
    RefundAnswer,
    RefundRequest,
    RefundState,
)
from plugins import strict
from plugins.calls import Calls
from plugins.payment import sandbox_words
from plugins.strict import NAME, Unproven

AGE_MAX_S = 300
SECRET_MIN = 24
# A reused connection may be closed under us; a reference is taken once, so asking again is safe.
TRIES_MAX = 2

METHODS = (
    Method(
        code="sandbox",
        kind=MethodKind.REDIRECT,
        currencies=tuple(sorted(CURRENCIES)),
        fee_bps=290,
        fee_fixed_minor={"USD": 30, "EUR": 25, "CNY": 200, "HKD": 235, "SGD": 50, "JPY": 40},
        can_save=True,
        can_authenticate=True,
    ),
)

# What a merchant's own account is reached with, as the gateway gives it when the account is opened.
CREDENTIALS = (
    CredentialField(
        "account",
        "The name of the account at the sandbox.",
        re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII),
        is_identity=True,
    ),
    CredentialField(
        "secret",
        "Its secret: 32 bytes in base64url.",
        re.compile(r"[A-Za-z0-9_-]{43}=?", re.ASCII),
        is_secret=True,
    ),
)
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)
_Call = Coroutine[None, None, tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class Sandbox:
    """The provider at `base_url`; `secret` is the bytes of KAMI_SANDBOX_SECRET.

    Each account has keys of its own, one per direction. Errors: ValueError for a missing secret.
    """

    base_url: str
    secret: bytes = field(repr=False)
    timeout_s: float = 3.0  # connect, wait for a free connection and read, together
    connections_max: int = 64

    # A merchant's own account: what we call it, what the gateway calls it. `secret` is then its own.
    own: tuple[str, str] | None = None
    shared: Calls | None = field(default=None, repr=False, compare=False)

    name: str = field(default="sandbox", init=False)
    credentials: tuple[CredentialField, ...] = field(default=CREDENTIALS, init=False, repr=False)
    methods: tuple[Method, ...] = field(default=METHODS, init=False, repr=False)
    success_word: bytes = field(default=b"success", init=False, repr=False)
    failure_word: bytes = field(default=b"fail", init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < SECRET_MIN:
            raise ValueError(
                f"KAMI_SANDBOX_SECRET is missing or shorter than {SECRET_MIN} bytes; make one: "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )

    @cached_property
    def _calls(self) -> Calls:
        return self.shared or Calls(
            self.base_url, self.timeout_s, self.connections_max, tries=TRIES_MAX
        )

    def bound(self, account: str, values: Mapping[str, str]) -> Sandbox:
        """The gateway as seen from a merchant's own account, over the same connections."""
        secret = base64.urlsafe_b64decode(values["secret"].rstrip("=") + "=")
        return replace(self, secret=secret, own=(account, values["account"]), shared=self._calls)

    async def prove(self) -> bool | None:
        """Whether the gateway knows the account by this secret; None when it does not say so itself."""
        assert self.own is not None, "the platform's account is proved by its first call"
        try:
            status, answer = await self._call("GET", "/v1/account", self.own[0])
        except Unproven as lost:
            return False if lost.reason == "http_401" else None
        return status == 200 and answer.get("account") == self.own[1]

    def _there(self, account: str) -> str:
        """What the gateway calls an account of ours."""
        if self.own is None:
            return account
        assert account == self.own[0], (account, self.own[0])
        return self.own[1]

    async def charge(self, request: ChargeRequest) -> ChargeAnswer:
        """Open a payment; safe to repeat. UNKNOWN whenever the answer is missing or unproved."""
        asked: dict[str, object] = {
            "reference": request.reference,
            "method": request.method,
            "amount": _amount_out(request.amount),
            "order_number": request.order_number,
            "return_url": request.return_url,
            "notify_url": request.notify_url,
            "expires_at": _instant_out(request.expires_at),
            "locale": request.locale,
        }
        asked |= {"save": True} if request.save else {}
        asked |= {"token": request.token} if request.token else {}
        asked |= {"must_authenticate": True} if request.must_authenticate else {}
        call = self._call("POST", "/v1/payments", request.account, asked)
        return await _charged(
            call, self._there(request.account), request.reference, is_final=_for_good
        )

    async def query(self, *, account: str, reference: str) -> ChargeAnswer:
        """Read a payment. FAILED only on the provider's signed word that it never saw it."""
        call = self._call("GET", f"/v1/payments/{_path(reference)}", account)
        return await _charged(call, self._there(account), reference, is_final=_never_seen)

    async def void(self, *, account: str, reference: str) -> ChargeAnswer:
        """Close a reference for ever: CAPTURED when too late, else VOIDED, also when never seen."""
        call = self._call("POST", f"/v1/payments/{_path(reference)}/void", account, {})
        return await _charged(call, self._there(account), reference, is_final=_never_seen)

    async def refund(self, request: RefundRequest) -> RefundAnswer:
        """Ask for money back; safe to repeat. FAILED on a signed refusal, UNKNOWN if unproved."""
        asked = {
            "reference": request.reference,
            "payment_id": request.provider_ref,
            "amount": _amount_out(request.amount),
            "reason": request.reason,
        }
        call = self._call("POST", "/v1/refunds", request.account, asked)
        return await _refunded(
            call, self._there(request.account), request.reference, is_final=_for_good
        )

    async def query_refund(self, *, account: str, reference: str) -> RefundAnswer:
        """Read a refund. FAILED only on the signed word that it failed or was never seen."""
        call = self._call("GET", f"/v1/refunds/{_path(reference)}", account)
        return await _refunded(call, self._there(account), reference, is_final=_never_seen)

    async def forget(self, *, account: str, token: str) -> bool:
        """Delete a saved method. True only on the signed word that it is gone or was never there."""
        try:
            status, answer = await self._call(
                "POST", "/v1/methods/forget", account, {"token": token}
            )
            if status < 400:
                return (answer.get("account"), answer.get("forgotten")) == (
                    self._there(account),
                    True,
                )
            return _never_seen(status, _error(answer)[0])
        except Unproven:
            return False

    def verify(self, *, account: str, headers: Mapping[str, str], body: bytes) -> list[Fact]:
        """Prove a callback on the bytes received; nothing in it is looked at before the proof.

        Errors: CallbackRefused with facts `status` (401 not the provider's, 400 not readable) and
        `reason`.
        """
        if not 0 < len(body) <= strict.BODY_MAX:
            raise _refused(400, "body_size")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _refused(400, "content_type")
        if headers.get("content-encoding", "identity") != "identity":
            raise _refused(400, "content_encoding")
        signature = headers.get("sandbox-signature", "")
        if not signature:
            raise _refused(401, "signature_missing")
        timestamp = headers.get("sandbox-timestamp")
        event_id = headers.get("sandbox-event-id")
        if timestamp is None or event_id is None:
            raise _refused(400, "header_missing")
        if not NAME.fullmatch(account) or not _TIMESTAMP.fullmatch(timestamp):
            raise _refused(401, "signature")
        there = self._there(account)
        base = _base("callback", there, timestamp, event_id)
        proof = self._sign("callback", there, base, body)
        if not hmac.compare_digest(proof, signature.encode("utf-8", "backslashreplace")):
            raise _refused(401, "signature")
        if abs(clock.now().timestamp() - int(timestamp)) > AGE_MAX_S:
            raise _refused(401, "stale")
        try:
            return [sandbox_words.fact(strict.json_object(body), there, event_id)]
        except Unproven as unreadable:
            raise _refused(400, unreadable.reason) from None

    async def close(self) -> None:
        """Close the running loop's connections; the next call opens new ones."""
        await self._calls.close()

    def _sign(self, direction: str, account: str, base: bytes, body: bytes) -> bytes:
        label = f"kami-sandbox/v1/{direction}/{account}".encode()
        key = hmac.digest(self.secret, label, "sha256")
        return b"v1=" + hmac.digest(key, base + body, "sha256").hex().encode()

    async def _call(
        self, method: str, path: str, account: str, asked: Mapping[str, object] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """(status, fields) of an answer signed for this very request. Errors: Unproven."""
        account = self._there(account)
        assert NAME.fullmatch(account), account
        body = b"" if asked is None else json.dumps(asked, separators=(",", ":")).encode()
        timestamp, nonce = str(int(clock.now().timestamp())), secrets.token_hex(8)
        base = _base("request", account, timestamp, nonce, method, path)
        signature = self._sign("request", account, base, body).decode()
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "Sandbox-Account": account,
            "Sandbox-Timestamp": timestamp,
            "Sandbox-Nonce": nonce,
            "Sandbox-Signature": signature,
        }
        status, claimed, got = await self._calls.exchange(
            method, path, headers, body, proof="Sandbox-Signature"
        )
        base = _base("response", account, signature, str(status))
        proof = self._sign("response", account, base, got)
        if not hmac.compare_digest(proof, claimed.encode("utf-8", "backslashreplace")):
            raise Unproven("answer_signature" if status < 400 else f"http_{status}")
        if status >= 500:
            raise Unproven(f"http_{status}")
        return status, strict.json_object(got)


def _base(direction: str, *parts: str) -> bytes:
    return "\n".join(("v1", direction, *parts, "")).encode()


def _refused(status: int, reason: str) -> CallbackRefused:
    return CallbackRefused(status=status, reason=reason)


def _path(reference: str) -> str:
    assert NAME.fullmatch(reference), reference
    return reference


def _amount_out(amount: Money) -> dict[str, str]:
    return {"value": amount.decimal(), "currency": amount.currency}


def _instant_out(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(answer: Mapping[str, Any]) -> tuple[str, str]:
    error = answer.get("error")
    if not isinstance(error, dict):
        raise Unproven("field_error")
    return strict.name(error, "code"), strict.words(error, "message")


def _never_seen(status: int, code: str) -> bool:
    return (status, code) == (404, "not_found")


def _for_good(status: int, code: str) -> bool:
    # The others do not say what became of the reference: only a query can.
    return status not in {408, 409, 425, 429}


async def _charged(
    call: _Call, account: str, reference: str, *, is_final: Callable[[int, str], bool]
) -> ChargeAnswer:
    """What the answer of `call` proves of the attempt; a refusal counts only where `is_final`."""
    try:
        status, answer = await call
        if status < 400:
            return sandbox_words.charge(answer, account, reference)
        code, message = _error(answer)
    except Unproven as lost:
        return ChargeAnswer(ChargeState.UNKNOWN, raw_code=lost.reason)
    refused = ChargeState.DECLINED if code == "declined" else ChargeState.FAILED
    state = refused if is_final(status, code) else ChargeState.UNKNOWN
    return ChargeAnswer(state, raw_code=code, raw_message=message)


async def _refunded(
    call: _Call, account: str, reference: str, *, is_final: Callable[[int, str], bool]
) -> RefundAnswer:
    """What the answer of `call` proves of the refund; a refusal counts only where `is_final`."""
    try:
        status, answer = await call
        if status < 400:
            return sandbox_words.refund(answer, account, reference)
        code, message = _error(answer)
    except Unproven as lost:
        return RefundAnswer(RefundState.UNKNOWN, raw_code=lost.reason)
    state = RefundState.FAILED if is_final(status, code) else RefundState.UNKNOWN
    return RefundAnswer(state, raw_code=code, raw_message=message)
